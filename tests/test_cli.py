"""The command line and the face's explanations, on tiny random networks; nothing is downloaded."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import relmap
import test_packing
import torch
from click.testing import CliRunner, Result
from PIL import Image
from reference_nets import inputs, network
from relmap.catalogue.methods import CATALOGUE, FEATURE_MAP, find
from relmap.catalogue.metrics import columns
from relmap.cli import doctor
from relmap.cli.main import main
from relmap.data.images import Preprocessing
from relmap.data.photographs import read_photograph
from relmap.errors import InputError
from relmap.evidence import status
from relmap.figures.contact import contact_sheet, show
from relmap.inspection import explaining
from relmap.inspection.explaining import default_methods
from relmap.inspection.explanations import Explanation, load
from relmap.inspection.scores import read_regions, score_network, score_regions, summary
from relmap.models.named import Named, class_number, network_named, read_names
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5),
    )

broken = 3
"""
# Methods that go wrong in each way that the sheet must survive.
ROWS = """
from relmap.catalogue.methods import Method

METHODS = [
    Method("infinite", "Infinite", "made up", "wrong.py:Infinite"),
    Method("nothing", "Nothing", "made up", "wrong.py:Nothing"),
    Method("raising", "Raising", "made up", "wrong.py:Raising"),
    Method("hungry", "Hungry", "made up", "wrong.py:Hungry"),
]
"""
WRONG = """
from relmap.explainers.base import Explainer

class Nothing(Explainer):
    def __init__(self, model):
        pass

    def __call__(self, images, targets):
        return images.new_zeros(*targets.shape, *images.shape[2:])

class Infinite(Nothing):
    def __call__(self, images, targets):
        maps = super().__call__(images, targets) + 1
        maps[0, 0, 3, 4] = float("inf")
        return maps

class Raising(Nothing):
    def __call__(self, images, targets):
        raise ValueError("of its own")

class Hungry(Nothing):
    def __call__(self, images, targets):
        return images.new_zeros(1 << 48)
"""
NAMES = ["tench", "tabby cat", "tiger cat", "crane", "coast"]
SMALL = ("--model", "net.py:make", "--size", "32", "--classes", "names.txt")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with photographs, a network, names of its classes and rows of one's own, from which commands run."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, size in (("photo.jpg", (50, 40)), ("photos/a.png", (40, 60)), ("photos/more/b.jpg", (64, 64))):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    texts = {"net.py": NET, "rows.py": ROWS, "wrong.py": WRONG, "names.txt": "\n".join(NAMES)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def given() -> Explanation:
    """Of tensors, by methods of several kinds: relevance, an inner layer, none, and one that refuses."""
    images = inputs(torch.float32)[0][:2]
    methods = ["abslrp", "grad_cam", "saliency", "attention_rollout", "lrp_epsilon"]
    return Explanation.of(network("resnet50", torch.float32), images, torch.tensor([[1, 2], [3, 0]]), methods)


# The face


def test_help_is_there_at_once():
    """Without what takes seconds to import."""
    code = (
        "import sys; from relmap.cli.main import main; main(['--help'], standalone_mode=False);"
        "assert not {'torch', 'numpy', 'pandas', 'matplotlib', 'yaml', 'snakemake'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for name, command in main.commands.items():
        assert name in said
        assert f"  relmap {name}" in run(name, "--help").output, f"{name} --help teaches by no example"
        assert len(command.get_short_help_str(100)) > 20


def test_the_module_is_the_command():
    module = [sys.executable, "-m", "relmap", "metrics", "--json"]
    assert json.loads(subprocess.run(module, check=True, capture_output=True, text=True).stdout)
    environment = {**os.environ, "_RELMAP_COMPLETE": "bash_source"}
    said = subprocess.run(module[:3], check=True, capture_output=True, text=True, env=environment).stdout
    assert "complete -o nosort -F _relmap_completion relmap" in said


def test_the_face_has_hints():
    things = [getattr(relmap, name) for name in relmap.__all__]
    functions = [each for thing in things for each in (thing, *vars(thing).values()) if inspect.isfunction(each)]
    for function in functions:
        if "relmap" not in function.__code__.co_filename or function.__name__ == "__init__":
            continue  # made by dataclass
        asked = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
        assert {*asked, "return"} <= inspect.get_annotations(function).keys(), function
    assert set(relmap.__all__) == set(relmap._FACE)
    assert (ROOT / "workflow/relmap/py.typed").is_file()


def test_maps_are_those_of_explain(given):
    images, model = inputs(torch.float32)[0][:2], network("resnet50", torch.float32)
    targets = torch.from_numpy(given.targets)
    for method in ("abslrp", "grad_cam", "saliency", "lrp_epsilon"):
        assert torch.equal(torch.from_numpy(given[method]), relmap.explain(model, images, targets, method))
    with torch.no_grad():
        expected = model(images).double().softmax(1)
    np.testing.assert_allclose(given.target_probabilities, expected.gather(1, targets).numpy(), rtol=1e-4)
    assert given.predicted[:, 0].tolist() == expected.argmax(1).tolist()
    assert (
        relmap.Explanation.of(model, images, methods="saliency").targets[:, 0].tolist()
        == given.predicted[:, 0].tolist()
    )


def test_conservation_is_measured_and_what_is_wrong_is_said(given):
    methods = given.methods
    assert methods["abslrp"].leak.shape == (2, 2) and methods["abslrp"].leak.max() < 1e-4
    assert methods["grad_cam"].leak is methods["saliency"].leak is None
    model, images = network("resnet50", torch.float32), inputs(torch.float32)[0][:1]
    start = relmap.conservation(model, images, torch.tensor([1]), "lrp_epsilon").iloc[0]["received"]
    leak = abs(given["lrp_epsilon"][0, 0].sum() - start) / abs(start)
    assert methods["lrp_epsilon"].leak[0, 0] == pytest.approx(leak, rel=1e-3)
    assert methods["attention_rollout"].maps is None and "self-attention" in methods["attention_rollout"].said[0]
    with pytest.raises(InputError, match="self-attention"):
        given["attention_rollout"]
    with pytest.raises(InputError, match="did you mean 'grad_cam'"):
        given["gradcam"]


def test_where_a_total_is_lost_is_said():
    model, image = network("vit", torch.float32), inputs(torch.float32)[0][:1]
    method = Explanation.of(model, image, 1, "lrp_alpha1_beta0").methods["lrp_alpha1_beta0"]
    steps = relmap.conservation(model, image, torch.tensor([1]), "lrp_alpha1_beta0")
    worst = steps.loc[steps["leak"].abs().idxmax(), "operation"]
    assert method.leak[0, 0] > 0.5
    assert (
        len(method.said) == 1
        and f"by {method.leak[0, 0]:.2g} times" in method.said[0]
        and repr(worst) in method.said[0]
    )


@pytest.mark.parametrize("suffix", ["npz", "zarr"])
def test_what_is_saved_is_read_again_bit_for_bit(given, tmp_path, suffix):
    path = tmp_path / f"maps.{suffix}"
    whole = replace(
        given, class_names=tuple(f"Klaße {n}" for n in range(10)), preprocessing=Preprocessing(64, 64).to_dict()
    )
    whole.save(path)
    whole.save(path)  # in the place of the first
    again = relmap.load(path)
    for each in fields(Explanation):
        if each.name != "methods":
            _equal(getattr(again, each.name), getattr(whole, each.name))
    assert list(again.methods) == list(whole.methods)
    for name, method in whole.methods.items():
        for each in fields(method):
            _equal(getattr(again.methods[name], each.name), getattr(method, each.name))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def _equal(first, second):
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


def test_what_is_no_explanation_is_named(given, tmp_path):
    with pytest.raises(InputError, match=r"maps\.pkl.*\.npz"):
        given.save(tmp_path / "maps.pkl")
    with pytest.raises(InputError, match=r"other\.npz: no such file"):
        load(tmp_path / "other.npz")
    np.savez(tmp_path / "array.npz", words=np.array("3"))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.zarr").mkdir()
    for name in ("array.npz", "text.npz", "empty.zarr"):
        with pytest.raises(InputError, match=re.escape(name)):
            load(tmp_path / name)


def test_a_notebook_shows_it(given):
    picture = show(given)
    assert Image.open(io.BytesIO(given._repr_png_())).size == picture.size
    pixels = np.asarray(picture).astype(int)
    assert (abs(pixels[..., 0] - pixels[..., 2]) > 60).mean() > 0.02, "no red and blue of signed maps"
    with pytest.raises(InputError, match="no row 4; there are 4"):
        contact_sheet(given, first=4)
    images = inputs(torch.float32)[0][:2]
    maps = {"abslrp": torch.from_numpy(given["abslrp"]), "mine": torch.from_numpy(given["grad_cam"])}
    assert show(maps, images).width == show(given).width or show(maps, images).height > 500
    assert show(maps["mine"][:, 0], images).height < show(maps, images).height  # a row an image, not two
    with pytest.raises(InputError, match="give the images too"):
        show(maps)
    with pytest.raises(InputError, match="does not fit images"):
        show(maps["mine"][:1], images)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50", "vit"])
def test_eight_methods_suit_any_network(architecture):
    model = network(architecture, torch.float32)
    images = inputs(torch.float32)[0][:1]
    propagator = relmap.Propagator(model, images.shape[1:])
    chosen = default_methods(propagator)
    assert len(chosen) == 8
    assert any(FEATURE_MAP in find(name).needs for name in chosen) == (architecture != "vit")
    found = Explanation.of(propagator, images)
    assert list(found.maps) == list(chosen), [method.said for method in found.methods.values()]
    assert all(np.isfinite(maps).all() and maps.any() for maps in found.maps.values())


# relmap explain


def test_explain_makes_a_sheet_and_keeps_the_maps(folder):
    arguments = (
        "--methods",
        "abslrp,grad_cam,attention_rollout",
        "--class",
        "tabby",
        "--class",
        "4",
        "--save",
        "maps.npz",
    )
    result = run("explain", "photo.jpg", "photos", *SMALL, *arguments)
    assert result.exit_code == 0, result.output
    kept = relmap.load("maps.npz")
    assert kept.images == ("photo.jpg", "a.png", "b.jpg")
    assert kept.targets.tolist() == [[1, 4]] * 3 and kept.class_names == tuple(NAMES)
    assert kept.sizes.tolist() == [[50, 40], [40, 60], [64, 64]]
    for words in (
        "photo.jpg: ",
        "explained: tabby cat, coast",
        "attention_rollout",
        "refused",
        "self-attention",
        "sheet: ",
    ):
        assert words in result.output, words
    (line,) = [line for line in result.output.splitlines() if line.startswith("abslrp")]
    assert float(line.split()[-1]) < 1e-3  # the leak
    # The maps are those of the pictures that were kept, by this network.
    sys.path.insert(0, str(folder))
    try:
        model = network_named("net.py:make").model
    finally:
        sys.path.remove(str(folder))
    seen = Preprocessing.from_dict(kept.preprocessing)
    images = seen.normalise(torch.from_numpy(kept.pictures).permute(0, 3, 1, 2))
    assert images.shape == (3, 3, 32, 32)
    expected = relmap.explain(model, images, torch.from_numpy(kept.targets), "abslrp", batch_size=4)
    torch.testing.assert_close(torch.from_numpy(kept["abslrp"]), expected)
    with Image.open("sheet.png") as sheet:
        width, height = sheet.size
    assert width >= 7 * 240 and height > 6 * 240  # three images, two classes each


def test_more_rows_than_a_sheet_has_go_on_further_sheets(folder):
    for number in range(17):
        Image.new("RGB", (32, 32), (number, 99, 200)).save(folder / "photos" / f"n{number}.png")
    result = run("explain", "photos", *SMALL, "--methods", "saliency", "--out", "all.jpg")
    assert result.exit_code == 0, result.output
    assert (folder / "all.jpg").is_file() and (folder / "all_2.jpg").is_file() and not (folder / "all_3.jpg").exists()


def test_methods_that_go_wrong_are_told_and_the_others_go_on(folder):
    arguments = ("--extension", "rows.py", "--methods", "infinite,nothing,raising,hungry,abslrp", "--save", "maps.zarr")
    result = run("explain", "photos", *SMALL, *arguments, "--out", "sheet.pdf")
    assert result.exit_code == 0, result.output
    assert "infinite: 1 of 2 maps hold NaN or infinity" in result.output
    assert "nothing: 2 of 2 maps are 0 everywhere" in result.output
    assert "raising: ValueError: of its own" in result.output
    assert "hungry: memory is not enough: explain fewer images at a time" in result.output
    kept = relmap.load("maps.zarr")
    assert list(kept.maps) == ["infinite", "nothing", "abslrp"]
    assert np.isnan(kept["infinite"][0]).all() and (kept["infinite"][1] == 1).all()
    assert Path("sheet.pdf").read_bytes().startswith(b"%PDF")
    alone = run("explain", "photo.jpg", *SMALL, "--extension", "rows.py", "--methods", "raising")
    assert alone.exit_code == 1 and "every method refused" in alone.output
    shown = run("explain", "photo.jpg", *SMALL, "--extension", "rows.py", "--methods", "raising", "--debug")
    assert shown.exit_code == 1 and "Traceback" in shown.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["explain"], 2, "Missing argument 'PHOTOS...'"),
        (["explain", "no.jpg"], 1, "no.jpg: no such photograph"),
        (["explain", "names.txt", *SMALL], 1, "names.txt: corrupt or truncated image"),
        (["explain", "photo.jpg", "--methods", "gradcam"], 1, "did you mean 'grad_cam'"),
        (["explain", "photo.jpg", "--model", "resnet5"], 1, "did you mean 'resnet50'"),
        (["explain", "photo.jpg", "--model", "net.py:mak"], 1, "no function mak; did you mean 'make'"),
        (["explain", "photo.jpg", "--model", "net.py:broken"], 1, "has no function broken"),
        (["explain", "photo.jpg", "--model", "no.such:thing"], 1, "cannot be imported"),
        (["explain", "photo.jpg", "--weights", "no.pth"], 1, "no.pth: no such file of weights"),
        (["explain", "photo.jpg", "--weights", "names.txt"], 1, "names.txt: not a file of weights"),
        (["explain", "photo.jpg", "--out", "sheet.gif"], 1, "sheet.gif: a sheet is a .png"),
        (["explain", "photo.jpg", "--save", "maps.pkl"], 1, "maps.pkl: maps are kept as"),
        (["explain", "photo.jpg", "--out", "no/sheet.png"], 1, "no: no such folder"),
        (["explain", "photo.jpg", "--mean", "1,2"], 2, "is not three numbers"),
        (["explain", "photo.jpg", *SMALL, "--class", "cat"], 1, "in the names of several: 1 tabby cat, 2 tiger cat"),
        (["explain", "photo.jpg", *SMALL, "--class", "5"], 1, "has 5 classes, counted from 0"),
        (["explain", "photo.jpg", *SMALL[:4], "--class", "tench"], 1, "nobody knows the names"),
        (["explain", "photo.jpg", *SMALL[:4], "--classes", "net.py"], 1, "the network has 5 outputs"),
        (["score", "maps.npz"], 2, "nothing to score by"),
        (["score", "maps.npz", "--regions", "boxes.csv"], 1, "maps.npz: no such file"),
        (["plan", "--configfile", "no.yaml"], 1, "no.yaml: no such file"),
        (["plan", "--config", "papers"], 1, "--config papers: not KEY=VALUE"),
        (["status", "nowhere"], 1, "nowhere: no such run"),
        (["new", "method", "grad_cam"], 1, "of the catalogue already"),
        (["new", "metric", "Sharp"], 1, "is no name for a metric"),
        (["new", "thing", "mine"], 2, "is not one of 'method', 'metric', 'dataset', 'paper'"),
    ],
)
def test_errors_are_one_line_with_the_cure(folder, arguments, code, words):
    result = run(*arguments)
    assert result.exit_code == code
    assert words in result.output, result.output
    assert "Traceback" not in result.output
    if code == 1:
        assert len(result.output.strip().splitlines()) == 1 and result.output.startswith("error: ")
        assert "Traceback" in run(*arguments, "--debug").output


def test_an_error_that_nobody_expected_is_one_line_too(folder, monkeypatch):
    monkeypatch.setattr(explaining, "network_named", lambda *given: 1 / 0)
    result = run("explain", "photo.jpg")
    assert result.exit_code == 1
    assert result.output.startswith("error: ZeroDivisionError: ") and "--debug" in result.output


# Photographs, names, weights


def test_photographs_are_upright(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = (255, 0, 0)  # at the left as stored, above when upright
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    seen, size = read_photograph(tmp_path / "turned.png", Preprocessing(20, 20, fit="squash"))
    assert size == (30, 20)
    assert seen[:5, :, 0].min() > 200 and seen[12:, :, 0].max() < 60


def test_names_of_classes(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("n01440764 tench, Tinca tinca\nnight heron, black\n\nn0 odd\n")
    names = read_names(path)
    assert names == ("tench", "night heron, black", "n0 odd")
    assert class_number("TENCH", names, 3) == class_number(" 0", names, 3) == class_number("ench", names, 3) == 0
    assert class_number("odd", (*names, "odd"), 4) == 3  # the whole name goes before a part
    with pytest.raises(InputError, match="the name of several: 0 a, 1 a; give the number"):
        class_number("a", ("a", "a"), 2)
    with pytest.raises(InputError, match="did you mean 'tench'"):
        class_number("tensh", names, 3)


def test_weights_from_files(tmp_path):
    from relmap.torchvision_shim import torchvision

    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(num_classes=7).eval()
    image = torch.rand(1, 3, 64, 64)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "net.pth")
    for file in ("net.safetensors", "net.pth"):
        named = network_named("squeezenet1_1", tmp_path / file)
        assert torch.equal(named.model(image), model(image)) and named.weights == file
        assert named.preprocessing == Preprocessing(256, 224)
        assert not any(each.requires_grad for each in named.model.parameters())
    with pytest.raises(InputError, match=r"net\.pth: lacks fc\.weight, the last layer of resnet18"):
        network_named("resnet18", tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth: the weights do not fit"):
        network_named("squeezenet1_0", tmp_path / "net.pth")


def test_without_internet_one_line_says_how(folder, monkeypatch):
    def unreachable(*given, **more):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(folder))
    result = run("explain", "photo.jpg")
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    for words in ("--weights FILE", "https://download.pytorch.org/models/resnet50-0676ba61.pth", str(folder)):
        assert words in line
    assert "nobody distributes" in run("explain", "photo.jpg", "--model", "torchray_vgg16").output


# relmap score


@pytest.fixture
def kept(folder) -> Explanation:
    """Two photographs, two classes each, explained by two methods."""
    named = network_named("net.py:make", preprocessing=Preprocessing(32, 32, fit="squash"))
    return Explanation.of(
        named.model,
        ["photo.jpg", "photos/a.png"],
        ["tabby cat", "tench"],
        ["abslrp", "saliency"],
        class_names=NAMES,
        preprocessing=named.preprocessing,
    )


def test_scores_by_boxes_are_those_by_hand(folder, kept):
    kept.save("maps.npz")
    # photo.jpg is 40 wide and 50 high, and seen as 32 x 32; a.png is 60 x 40.
    lines = ["image,x0,y0,x1,y1,class", "photo.jpg,0,0,20,25,tabby cat", "photo,20,25,40,50,1", "a.png,0,0,60,20,tench"]
    Path("boxes.csv").write_text("\n".join([*lines, "elsewhere.png,0,0,1,1,0"]))
    regions = read_regions("boxes.csv", kept)
    expected = np.zeros((2, 2, 32, 32), bool)
    expected[0, 0, :16, :16] = expected[0, 0, 16:, 16:] = expected[1, 1, :16] = True
    np.testing.assert_array_equal(regions.inside, expected)
    assert regions.unknown == ("elsewhere.png",) and regions.known.tolist() == [[True, False], [False, True]]

    table = score_regions(kept, regions).set_index(["method", "metric", "image"])["value"]
    assert len(table) == 2 * 3 * 4
    for image, place, name in ((0, 0, "photo.jpg"), (1, 1, "a.png")):
        relevance, inside = kept["abslrp"][image, place].astype(float), expected[image, place]
        positive = np.clip(relevance, 0, None)
        assert table["abslrp", "relevance_mass", name] == pytest.approx(positive[inside].sum() / positive.sum())
        top = np.argsort(-relevance.ravel(), kind="stable")[: inside.sum()]
        assert table["abslrp", "relevance_rank", name] == pytest.approx(inside.ravel()[top].mean())
        row, column = divmod(int(relevance.argmax()), 32)
        near = [(r - row) ** 2 + (c - column) ** 2 < 1.0 for r, c in zip(*np.nonzero(inside), strict=True)]
        assert table["abslrp", "pointing_game", name] == float(any(near))  # 15 / 500 of 32 is less than a pixel
        assert table["constant", "relevance_mass", name] == pytest.approx(0.5)

    result = run("score", "maps.npz", "--regions", "boxes.csv", "--out", "scores.csv")
    assert result.exit_code == 0, result.output
    assert "1 images are not in the explanation, such as elsewhere.png" in result.output
    assert "2 of 4 maps have no region" in result.output
    mean = summary(score_regions(kept, regions)).set_index(["method", "metric"]).loc[("abslrp", "relevance_mass")]
    assert f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]" in result.output
    with open("scores.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table)


def test_masks_are_regions_too(folder, kept):
    mask = np.zeros((50, 40), np.uint8)
    mask[:25] = 7
    Image.fromarray(mask).save("mask.png")
    Path("masks.csv").write_text("image,mask\nphoto.jpg,mask.png\n")
    inside = read_regions("masks.csv", kept).inside
    assert inside[0, :, :16].all() and not inside[0, :, 16:].any() and not inside[1].any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("picture,x0\na,1", "has the columns picture, x0; it must have image"),
        ("image,x0,y0,x1,y1", "has no lines"),
        ("image,x0,y0,x1,y1\nphoto.jpg,1,2,x,4", "line 2: a side of the box is no number"),
        ("image,x0,y0,x1,y1\nphoto.jpg,5,2,5,4", r"line 2: the box \[5.0, 2.0, 5.0, 4.0\] is empty"),
        ("image,x0,y0,x1,y1\nphoto.jpg,1,2", "line 2 has not as many values"),
        ("image,x0,y0,x1,y1\nphotto.jpg,1,2,3,4", "none of its images is in the explanation.*did you mean 'photo.jpg'"),
        ("image,x0,y0,x1,y1,class\nphoto.jpg,1,2,3,4,dog", "line 2: class 'dog' is none"),
        ("image,mask\nphoto.jpg,photos/a.png", r"a.png: the mask has 60 x 40 pixels, its photograph 40 x 50"),
        ("image,mask\nphoto.jpg,no.png", r"no.png: no such image"),
    ],
)
def test_wrong_regions_are_named(kept, text, words):
    Path("wrong.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_regions("wrong.csv", kept)


def test_insertion_and_deletion_are_those_by_hand(folder, kept):
    model = network_named("net.py:make").model
    asked = []
    scores = score_network(kept, model, progress=asked.append)
    assert asked == ["abslrp", "saliency", "centre_gaussian", "random"]
    table = scores.set_index(["method", "metric", "image", "target"])["value"]
    seen = Preprocessing.from_dict(kept.preprocessing)
    image = seen.normalise(torch.from_numpy(kept.pictures[:1]).permute(0, 3, 1, 2))
    order = np.argsort(-kept["abslrp"][0, 0].ravel().astype(np.float64), kind="stable")
    step = round(8 * 32 / 224 * 32)
    counts = [*range(0, 32 * 32, step), 32 * 32]
    curve = []
    for count in counts:
        changed = image.flatten(2).clone()
        changed[:, :, order[:count]] = 0
        with torch.no_grad():
            curve.append(model(changed.view_as(image)).double().softmax(1)[0, 1].item())
    area = (np.array(curve[1:]) + np.array(curve[:-1])).mean() / 2  # steps weigh alike, as UCAG has them
    assert table["abslrp", "deletion", "photo.jpg", 1] == pytest.approx(area, abs=1e-6)
    other = network_named("net.py:make").model
    with torch.no_grad():
        other[-1].bias += torch.arange(5.0)
    with pytest.raises(InputError, match="predicts other classes"):
        score_network(kept, other)


# Lists, runs, skeletons, the doctor


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("methods", list(CATALOGUE)),
        ("metrics", list(columns())),
        ("datasets", ["cub200_2011", "imagenet"]),
        ("models", ["vgg16", "c3_resnet50"]),
        ("papers", ["abslrp", "ae", "c3lrp", "clam", "ucag"]),
    ],
)
def test_lists(kind, ids):
    found = json.loads(run(kind, "--json").output)
    known = [each["id"] for each in found]
    assert [name for name in known if name in ids] == ids and len(set(known)) == len(known)
    assert all(each["label"] and each["source"] and each["about"] for each in found)
    said = re.sub(r"\s+", " ", run(kind).output)
    assert all(f"{each['id']} {each['label']}. " in said and each["about"] in said for each in found)


def test_rows_of_ones_own_are_listed(folder):
    assert "raising  Raising. made up" in run("methods", "--extension", "rows.py").output


def test_status_is_that_of_make(folder, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    status.main([str(folder)])
    assert run("status", str(folder)).output == capsys.readouterr().out


def test_commands_of_the_workflow_say_so_where_there_is_none(folder, monkeypatch):
    import relmap.cli.repository as place

    monkeypatch.setattr(place, "__file__", str(folder / "a" / "b" / "c" / "d.py"))
    result = run("status")
    assert result.exit_code == 1 and "not in a copy of relmap's repository" in result.output


def test_skeletons_work_as_they_are_written(folder):
    """All in one: their tests pass, ruff has nothing against them, and nothing is overwritten."""
    for kind in ("method", "metric", "dataset", "paper"):
        result = run("new", kind, f"my_{kind}", "--into", f"mine/{kind}")
        assert result.exit_code == 0 and f"pytest mine/{kind}" in result.output
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0 and "9 passed" in tests.stdout, tests.stdout
    ruff = [sys.executable, "-m", "ruff", "--config", str(ROOT / "pyproject.toml")]
    for command in (["check"], ["format", "--check"]):
        subprocess.run([*ruff[:3], *command, *ruff[3:], "mine"], check=True, capture_output=True)
    Path("mine/method/my_method.py").write_text("mine")
    result = run("new", "method", "my_method", "--into", "mine/method")
    assert result.exit_code == 1 and "is not overwritten" in result.output
    assert Path("mine/method/my_method.py").read_text() == "mine"
    result = run("new", "method", "my_method")  # a folder of its own name by default
    assert result.exit_code == 0 and Path("my_method/rows.py").is_file()


def test_the_doctor(folder, monkeypatch):
    result = run("doctor")
    for word in ("Python", "torch", "memory", "disk", "snakemake", "weights", "fonts", "chromium"):
        assert re.search(rf"^(ok|note|missing) +{word} ", result.output, re.MULTILINE), word
    assert result.exit_code == ("missing " in result.output)
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no_such_package"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20}))
    result = run("doctor")
    assert result.exit_code == 1 and "Missing: packages, disk" in result.output
    assert "no_such_package absent" in result.output and "requirements.lock" in result.output


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def _memory():
        raise OSError("unreadable")

    monkeypatch.setattr(doctor, "_CHECKS", (_memory,))
    (finding,) = doctor.examine()
    assert (finding.what, finding.state) == ("memory", doctor.MISSING) and "unreadable" in finding.says


# docs/command_line.md


PAGE = (ROOT / "docs" / "command_line.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.strip().splitlines()]


@pytest.fixture
def workplace(folder, monkeypatch):
    """Where the page's commands have what they name; its ResNet-50 is a small network with as many classes."""
    torch.manual_seed(0)
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4))
    small += torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1000))

    def named(name, weights=None, preprocessing=None):
        if name != "resnet50":
            return network_named(name, weights, preprocessing)
        assert str(weights) == "resnet50.safetensors"
        seen = Preprocessing(32, 32)
        return Named(small.eval(), preprocessing(seen) if callable(preprocessing) else seen, str(weights))

    monkeypatch.setattr(explaining, "network_named", named)
    monkeypatch.setattr("relmap.models.named.network_named", named)
    (folder / "boxes.csv").write_text("image,x0,y0,x1,y1\na,2,3,30,39\n")
    return folder


def test_every_command_of_the_page_runs(workplace, monkeypatch, tmp_path):
    assert len(COMMANDS) > 15 and all(command.startswith("relmap ") for command in COMMANDS)
    copy = tmp_path / "copy"
    test_packing.finish(copy, "demo")
    plans = []
    for command in COMMANDS:
        _, *arguments = shlex.split(command)
        places = {**dict.fromkeys(("plan", "status", "papers"), ROOT), "pack": copy, "restore": copy}
        monkeypatch.chdir(places.get(arguments[0], workplace))
        result = run(*arguments)
        assert result.exit_code == 0, f"{command}\n{result.output}"
        if arguments[0] == "plan":
            plans.append(result.output)
        if arguments[0] == "pack":
            shutil.rmtree(copy / "results")
    plan, with_gpu = plans
    assert re.search(r"^predict +1 +0\.00 ", plan, re.MULTILINE) and "4 of 4 printed cells" in plan
    assert re.search(r"^\d+ jobs, [1-9]\d* of their files stores of maps: \d", plan, re.MULTILINE)
    assert "gpu hours" not in plan and "on 16 cores and 1 GPU" in with_gpu and "no GPU was measured" in with_gpu
    assert {each.split()[1] for each in COMMANDS} == set(main.commands)
    for name in ("sheet.png", "tench.pdf", "maps.npz", "scores.csv", "mine/my_paper/paper.yaml"):
        assert (workplace / name).is_file(), name


def test_the_pages_python_runs(workplace):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(compile(block, "docs/command_line.md", "exec"), names)
    assert names["explanation"]["abslrp"].shape == (1, 1, 32, 32)
