"""Grids for GridPG: which images, which classes, what is written and what is read."""

import copy

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from relmap.data.images import Preprocessing, load_pixels
from relmap.data.manifest import build_manifest
from relmap.errors import InputError
from relmap.job.config import defaults

from papers.ae.grids import compose, confident_images, joined, read_grids, refuse_none, write_grids
from papers.ae.rows import check

CLASSES = ("tench", "shark", "cock", "hen", "jay", "bulbul")


def pairs(probabilities, predicted, present=True):
    count = len(probabilities)
    frame = pd.DataFrame({"image_id": [f"i{n}" for n in range(count)], "target": np.arange(count) % 3})
    return frame.assign(present=present, predicted=predicted, probability=probabilities)


def test_an_image_must_convince_all_models():
    one = pairs([0.99, 0.999, 0.98, 1.0, 1.0], [True, True, True, True, False])
    two = pairs([1.0, 0.5, 1.0, 0.995, 1.0], [True, True, True, True, True])
    found = confident_images([one, two], 0.99)
    assert found["image_id"].tolist() == ["i0", "i3"] and found["label"].tolist() == [0, 0]
    assert confident_images([one], 0.99)["image_id"].tolist() == ["i0", "i1", "i3"]
    assert confident_images([pairs([1.0], [True], present=False)], 0.9).empty, "predicted but absent"


def test_grids_have_distinct_classes_and_no_image_twice():
    labels = np.repeat(np.arange(6), [7, 5, 4, 4, 3, 1])
    grids = compose(labels, 2, 500, seed=1)
    assert len(grids) == 5, "a class gives one image to a grid: 24 images do not make 6"
    assert len(np.unique(grids)) == grids.size
    assert all(len(set(labels[grid])) == 4 for grid in grids)
    np.testing.assert_array_equal(compose(labels, 2, 2, seed=1), grids[:2])
    np.testing.assert_array_equal(compose(labels, 2, 500, seed=1), grids)
    assert not np.array_equal(compose(labels, 2, 500, seed=2), grids)
    assert compose(labels, 3, 5, seed=0).shape == (0, 9), "six classes fill no 3 x 3"


@pytest.mark.parametrize("seed", range(8))
def test_as_many_grids_as_possible(seed):
    """k grids are possible exactly when the classes, at most k images of each, have 4 k images."""
    counts = np.random.default_rng(seed).integers(0, 9, 6)
    bound = max(k for k in range(50) if np.minimum(counts, k).sum() >= 4 * k)
    assert len(compose(np.repeat(np.arange(6), counts), 2, 500, seed)) == bound


def test_none_is_an_error_that_names_the_key():
    images = pd.DataFrame({"image_id": ["a", "b"], "label": [0, 0]})
    with pytest.raises(InputError, match=r"`ae.grids.confidence` 0.99 leaves 2 images of 1 classes"):
        refuse_none(compose([0, 0], 2, 5, 0), images, 2, 0.99, ["vgg16", "resnet50"])


@pytest.fixture
def base(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        size = (40, 30) if number % 2 else (24, 52)
        picture = Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
        picture.save(tmp_path / f"{number}.png")
        row = {"image_id": f"val_{number}", "path": f"{number}.png", "split": "test", "labels": [number % 6]}
        rows.append({**row, "width": size[0], "height": size[1]})
    ids = [f"n{number:08}" for number in range(6)]
    return build_manifest("imagenet", tmp_path, rows, CLASSES, class_ids=ids, require_training=False, workers=1)


@pytest.mark.parametrize("n", [2])
def test_written_and_read(base, tmp_path, n):
    preprocessing = Preprocessing(resize=20, crop=16)
    rows = np.arange(2, 12)
    grids = compose(base.single_labels(rows), n, 2, seed=3)
    root = tmp_path / "grids"
    write_grids(root, base, rows, grids, preprocessing)
    manifest = read_grids(root, dataset="imagenet_grids", workers=1)
    assert manifest.info.class_names == CLASSES and manifest.info.class_ids == base.info.class_ids
    assert len(manifest) == 2 and manifest.rows("test").tolist() == [0, 1]
    seen = Preprocessing(resize=32, crop=32)
    pictures = load_pixels(manifest, [0, 1], seen, 1).numpy()
    tiles = load_pixels(base, rows[grids.ravel()], preprocessing, 1).numpy().reshape(2, 4, 3, 16, 16)
    for grid, row in enumerate(manifest.frame.itertuples()):
        assert (row.width, row.height) == (32, 32)
        assert row.labels == sorted(row.box_labels) and row.box_difficult == [False] * 4
        for cell, (box, label) in enumerate(zip(row.boxes, row.box_labels, strict=True)):
            assert box == [16 * (cell % 2), 16 * (cell // 2), 16 * (cell % 2) + 16, 16 * (cell // 2) + 16]
            x0, y0, x1, y1 = map(int, box)
            np.testing.assert_array_equal(pictures[grid, :, y0:y1, x0:x1], tiles[grid, cell])
            assert label == base.single_labels(rows)[grids[grid, cell]]
    index = pd.read_csv(root / "index.csv")
    assert index["image_id"].tolist() == [f"val_{row}" for row in rows[grids.ravel()]]
    write_grids(root, base, rows, grids, preprocessing, workers=2)
    assert read_grids(root, dataset="imagenet_grids").info.fingerprint == manifest.info.fingerprint


def test_broken_folders_are_named(base, tmp_path):
    root = tmp_path / "grids"
    rows = np.arange(12)
    write_grids(root, base, rows, compose(base.single_labels(rows), 2, 1, 0), Preprocessing(resize=20, crop=16))
    with pytest.raises(InputError, match="other classes than those of the network"):
        read_grids(root, dataset="imagenet_grids", classes={"n9": "another"})
    lines = (root / "index.csv").read_text().splitlines()
    (root / "index.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match="cells"):
        read_grids(root, dataset="imagenet_grids")
    for wrong in ("x", ""):
        (root / "index.csv").write_text("\n".join([*lines[:-1], f"0,3,val_9,{wrong}"]))
        with pytest.raises(InputError, match=r"index\.csv: invalid literal .*label"):
            read_grids(root, dataset="imagenet_grids")
    (root / "index.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"index\.csv: cannot be read"):
        read_grids(root, dataset="imagenet_grids")
    (root / "index.csv").write_text("\n".join(lines))
    classes = (root / "classes.csv").read_text().splitlines()
    (root / "classes.csv").write_text("\n".join([classes[0], classes[2], classes[1], *classes[3:]]))
    with pytest.raises(InputError, match=r"classes\.csv: labels are not 0, 1, \.\.\. in order"):
        read_grids(root, dataset="imagenet_grids")
    (root / "classes.csv").write_text("\n".join(classes))
    (root / "index.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="columns"):
        read_grids(root, dataset="imagenet_grids")
    (root / "index.csv").unlink()
    with pytest.raises(InputError, match=r"index\.csv"):
        read_grids(root, dataset="imagenet_grids")


def test_tiles_lie_along_the_rows():
    tiles = np.arange(4).reshape(1, 2, 2, 1, 1, 1) * np.ones((1, 2, 2, 3, 2, 2), dtype=int)
    assert joined(tiles)[0, :, :, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_the_config_is_checked():
    config = copy.deepcopy(defaults())
    check(config)
    check({**config, "models": {**config["models"], "vgg16": None}})
    config["models"]["vgg16_sliding"] = {"input_size": 64, "resize": 64}
    with pytest.raises(InputError, match="set both to 128"):
        check(config)
    config["models"]["vgg16_sliding"] = {"input_size": 128, "resize": 128}
    check(config)
