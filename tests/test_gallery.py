"""The gallery's small maps: drawn by lot, of few colours, outlined, bounded in size."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from relmap.data.manifest import ManifestInfo, write_manifest
from relmap.data.runs import encode_mask
from relmap.errors import InputError
from relmap.evidence.maps import open_maps
from relmap.figures import packing
from relmap.figures.gallery import coloured
from relmap.figures.packing import Place, draw, pack
from relmap.figures.results import Setting
from relmap.figures.tiles import GAP, LEVELS, SIDE, outline_of_boxes, outline_of_mask, strip, tile
from relmap.report import gallery
from synthetic_results import make_dataset, make_scores

METHODS = ["lrp_alpha1_beta0_norms", "lrp_clam"]
PLACES = [Place("imagenet", model, METHODS) for model in ("vgg16", "resnet50")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("gallery") / "synthetic"
    make_dataset(results, "imagenet", 10, seed=0)
    for model in ("vgg16", "resnet50"):
        make_scores(results, "imagenet", model, seed=1, methods=METHODS)
    return results


@pytest.fixture(scope="module")
def packed(made: Path) -> Path:
    pack(made, PLACES, ["lrp_clam"], 0, made / "gallery")
    return made / "gallery"


def pairs(*found: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["image_id", "target"]).assign(predicted=True)


def shown(frame: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(frame["image_id"], frame["target"], strict=True))


def test_images_are_drawn_in_turn_of_the_classes_and_the_same_for_all_networks() -> None:
    every = [(f"{number:02}", number % 3) for number in range(30)]
    first, second = pairs(*every), pairs(*every[::-1], ("00", 7))
    chosen = draw({"a": first, "b": second}, 6, seed=0)
    assert shown(chosen["a"]) == shown(chosen["b"]), "what one network alone explains comes last"
    assert sorted(target for _, target in shown(chosen["a"])) == [0, 0, 1, 1, 2, 2]
    assert {target for _, target in shown(chosen["a"])[:3]} == {0, 1, 2}
    assert list(chosen["a"]) == ["image_id", "target", "predicted"]
    assert shown(draw({"b": second, "a": first}, 4, seed=0)["a"]) == shown(chosen["a"])[:4]
    assert shown(draw({"a": first}, 6, seed=1)["a"]) != shown(draw({"a": first}, 6, seed=0)["a"])
    assert len(draw({"a": first, "b": second}, 99, seed=0)["b"]) == 31


def test_a_tile_has_the_colours_of_the_figures() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 60)).astype(np.float32)
    picture = strip([tile(values, True), tile(np.abs(values), False), tile(np.zeros((40, 60)), True)])
    assert picture.size == (60, 3 * (40 + GAP)) and picture.mode == "P"
    colours = np.asarray(picture.convert("RGB")).astype(int)
    assert (colours[80 + GAP :] == 255).all() and (colours[40 : 40 + GAP] == 255).all(), "zero is white, and gaps are"
    for top, wanted in ((0, coloured(values, True)), (40 + GAP, coloured(np.abs(values), False))):
        assert np.abs(colours[top : top + 40] - wanted).max() <= 2 * 255 / (LEVELS - 1)


def test_large_maps_are_averaged_down() -> None:
    values = np.zeros((4 * SIDE, 2 * SIDE))
    values[::2], values[1::2] = 1, -1
    small = tile(values, True)
    assert small.shape == (SIDE, SIDE // 2) and (small == (LEVELS - 1) // 2).all(), "what cancels, cancels"


def test_outlines() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 1:3] = mask[0, 2] = True
    assert outline_of_mask(mask) == "M2 0H3M1 1H2M1 2H3M1 1V2M2 0V1M3 0V2"
    assert outline_of_mask(np.zeros((3, 4))) == ""
    boxes = np.array([[0, 0, 2.5, 2], [1, 1, 1, 3]])
    assert outline_of_boxes(boxes) == "M0 0H2.5V2H0Z", "a box without area is none"


def test_what_is_packed_is_what_the_stores_hold(made: Path, packed: Path) -> None:
    index = gallery.read(packed)
    assert [(one["dataset"], one["model"]) for one in index["settings"]] == [
        ("imagenet", "vgg16"),
        ("imagenet", "resnet50"),
    ]
    assert index["images"] == packing.IMAGES and index["seed"] == 0
    examples = index["settings"][0]["examples"]
    assert [one["image"] for one in examples] == [one["image"] for one in index["settings"][1]["examples"]]
    store = open_maps(made / "maps" / "imagenet" / "vgg16" / "lrp_clam.zarr")
    for number, example in enumerate(examples):
        values = store.at(np.array([store.image_ids.index(example["image"])]))[0]
        assert example["totals"][1] == float(f"{values.sum(dtype=np.float64):.3g}"), "as printed, three digits"
        tiles = np.asarray(Image.open(packed / "imagenet" / "vgg16" / f"{number}.png").convert("RGB")).astype(int)
        assert tiles.shape == (2 * (64 + GAP), 64, 3) and example["size"] == [64, 64]
        assert np.abs(tiles[64 + GAP : -GAP] - coloured(values, False)).max() <= 255 / (LEVELS - 1)
        assert example["outlined"] == "box" and example["outline"].endswith("Z")
        picture = Image.open(packed / "imagenet" / "vgg16" / f"{number}.jpg")
        assert picture.size == (64, 64)
    assert {path.suffix for path in packed.rglob("*.*")} == {".png", ".jpg", ".json"}


def test_a_mask_is_outlined_before_boxes_and_of_the_class_alone(made: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(made, tmp_path / "run"))
    setting = Setting(results, "imagenet", "vgg16")
    frame, info = setting.manifest.frame.copy(), setting.manifest.info
    inside = np.zeros((64, 64), dtype=bool)
    inside[10:20, 30:50] = True
    label = frame["labels"].iat[0][0]
    frame["box_masks"] = [[encode_mask(inside)] if row == 0 else [""] for row in range(len(frame))]
    write_manifest(frame, results / "manifests" / "imagenet.parquet", ManifestInfo.from_dict(info.to_dict()))
    setting = Setting(results, "imagenet", "vgg16")
    image = frame["image_id"].iat[0]
    assert (setting.mask_of(image, label) == inside).all()
    assert setting.mask_of(image, label + 1) is None and not len(setting.boxes_of(image, label + 1))
    assert setting.mask_of(frame["image_id"].iat[1], frame["labels"].iat[1][0]) is None
    outline, kind = packing._outline(setting, image, label, (64, 64))
    assert (outline, kind) == ("M30 10H50M30 20H50M30 10V20M50 10V20", "mask")
    assert packing._outline(setting, image, label + 1, (64, 64)) == ("", "")


def test_the_size_is_bounded_and_every_place_keeps_an_image(
    made: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sum(path.stat().st_size for path in packed.rglob("*.[jp]*g"))
    monkeypatch.setattr(packing, "LIMIT", whole // 2)
    pack(made, PLACES, [], 0, tmp_path / "half")
    index = gallery.read(tmp_path / "half")
    assert 1 < index["images"] < packing.IMAGES
    assert sum(path.stat().st_size for path in (tmp_path / "half").rglob("*.[jp]*g")) <= whole // 2
    assert all(len(one["examples"]) == index["images"] for one in index["settings"])
    monkeypatch.setattr(packing, "LIMIT", 1)
    pack(made, PLACES, [], 0, tmp_path / "least")
    assert gallery.read(tmp_path / "least")["images"] == 1


def test_a_damaged_store_stops_it_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(made, tmp_path / "run"))
    shutil.rmtree(results / "maps" / "imagenet" / "vgg16" / "lrp_clam.zarr" / "maps")
    with pytest.raises(InputError, match=r"lrp_clam\.zarr"):
        pack(results, PLACES, [], 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_page_names_what_the_index_holds(packed: Path) -> None:
    leaks = {("imagenet", "vgg16", "lrp_clam"): "3 %"}
    found = gallery.for_page(packed.parent, {"vgg16": "VGG"}.get, leaks)
    first = found["settings"][0]
    assert first["model_label"] == "VGG" and [one["leak"] for one in first["methods"]] == [None, "3 %"]
    assert found["scales"]["signed"].startswith("linear-gradient(to right, #2f7fc9,")
    assert gallery.for_page(packed.parent / "nowhere", str, {}) is None
    (packed.parent / "broken" / "gallery").mkdir(parents=True)
    (packed.parent / "broken" / "gallery" / "index.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(InputError, match="not the index of a gallery"):
        gallery.for_page(packed.parent / "broken", str, {})


def test_packing_needs_no_torch() -> None:
    code = "import relmap.figures.packing, relmap.report.gallery, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
