"""The engine in the results: what is admitted, what is summed, the gallery and the report's tables."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import relmap
import torch
from reference_nets import network
from relmap.catalogue.methods import ATTENTION, BLOCKS, BOUNDS, BRANCH, CATALOGUE, FEATURE_MAP, PIXELS, SIZES
from relmap.catalogue.rows import Rows, label
from relmap.errors import InputError
from relmap.explainers.building import build
from relmap.figures.gallery import Comparison, coloured, fullest, gallery_figure, read_comparisons
from relmap.figures.page import Page
from relmap.inspection.comparison import admitted, offers, summarise, surest
from relmap.inspection.leakage import conservation
from relmap.models.card import input_range
from relmap.propagation import Propagator
from relmap.report import engine
from synthetic_results import SIDE, make_dataset, make_scores

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "engine" / "gallery.ipynb"


@pytest.fixture(scope="module")
def propagators():
    return {name: Propagator(network(name, torch.float32)) for name in ("vgg16", "resnet50", "vit")}


def test_networks_offer_what_methods_need(propagators):
    found = {name: offers(propagator.graph) for name, propagator in propagators.items()}
    assert found["vgg16"] == {BOUNDS, PIXELS, FEATURE_MAP, SIZES}
    assert found["resnet50"] == {BOUNDS, PIXELS, FEATURE_MAP, BLOCKS, SIZES}
    assert found["vit"] == {BOUNDS, PIXELS, ATTENTION}


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_what_is_admitted_can_be_built(propagators, name):
    methods = admitted(propagators[name].graph)
    for method in methods:
        build(propagators[name], method)
    left_out = CATALOGUE.keys() - set(methods)
    assert all({BLOCKS, ATTENTION, BRANCH} & set(CATALOGUE[method].needs) for method in left_out)
    assert ("c3_lrp" in methods) == (name == "resnet50")


def test_bounds_are_the_models_own(propagators):
    methods = ["lrp_epsilon", "lrp_alpha1_beta0", "c3_lrp"]
    assert admitted(propagators["vgg16"].graph, methods) == ["lrp_epsilon", "lrp_alpha1_beta0"]
    with pytest.raises(InputError, match="lrp_epsilom"):
        admitted(propagators["vgg16"].graph, ["lrp_epsilom"])
    low, high = input_range((0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
    assert np.allclose(low, [-2, -2, -3]) and np.allclose(high, [2, 3, 7])
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = torch.lerp(*(torch.tensor(bound)[:, None, None] for bound in (low, high)), pictures)
    model = network("vgg16", torch.float32)
    given = relmap.explain(model, images, 1, "clrp", low=low, high=high)
    assert not torch.equal(relmap.explain(model, images, 1, "clrp"), given)
    model.input_range = low, high
    assert torch.equal(relmap.explain(model, images, 1, "clrp"), given)


def test_surest_images_are_right_and_of_different_classes():
    rows = [("a", 0, False, 1.0), ("b", 1, True, 0.6), ("c", 1, True, 0.9), ("d", 2, True, 0.7), ("e", 2, False, 0.5)]
    targets = pd.DataFrame(rows, columns=["image_id", "target", "correct", "top_probability"])
    assert surest(targets, 2)["image_id"].tolist() == ["c", "d"]
    assert surest(targets, 4)["image_id"].tolist() == ["c", "d", "b", "a"]
    assert len(surest(targets, 9)) == 5


def test_summary_adds_up(propagators):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    steps = pd.concat(
        conservation(propagators["resnet50"], images, method=method).assign(dataset="a", model="b", method=method)
        for method in ("lrp_epsilon", "sglrp")
    )
    summary = summarise(steps).set_index("method")
    for method, of_method in steps.groupby("method"):
        first, rows = of_method.iloc[0], summary.loc[method]
        assert rows["operations"].sum() == len(of_method)
        net = of_method["leak"].sum() / first["magnitude"]
        assert rows["leak_of_start"].sum() == pytest.approx(net, rel=1e-6, abs=1e-9)
        assert rows["gross_of_start"].sum() >= abs(net) - 1e-9
    # The start of SGLRP sums to zero; its size does not.
    assert abs(steps[steps["method"] == "sglrp"].iloc[0]["received"]) < 1e-6
    assert np.isfinite(summary["leak_of_start"]).all()
    worst = summary.loc["lrp_epsilon"].groupby("kind")["gross_of_start"].sum().idxmax()
    assert worst in ("conv", "linear")  # biases, those of folded batch norms included


@pytest.mark.parametrize("method", ["lrp_alpha1_beta0", "lrp_alpha2_beta1", "sglrp", "rap", "rsp"])
def test_what_conserves_is_seen_to(propagators, method):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    steps = conservation(propagators["vgg16"], images, torch.tensor([1, 2]), method)
    assert summarise(steps.assign(dataset="a", model="b", method=method))["gross_of_start"].sum() < 1e-3


def test_colours_are_symmetric_and_clipped():
    values = np.linspace(-1, 1, 101).reshape(1, 101).repeat(101, axis=0)
    values[0, 0] = 1e6
    shown = coloured(values, signed=True).astype(int)
    assert np.array_equal(shown[50, 100], coloured(np.full((3, 3), 2.0), signed=True)[0, 0])
    darkness = 765 - shown[50].sum(axis=-1)
    assert darkness[50] == darkness.min()
    assert shown[50, 90, 0] > shown[50, 90, 2]  # red for the class
    assert shown[50, 10, 0] < shown[50, 10, 2]  # blue against it
    plain = coloured(np.array([[-1.0, 0.0, 1.0]]), signed=False)
    assert plain[0, 0].tolist() == plain[0, 1].tolist() == [255, 255, 255]
    assert plain[0, 2].max() < 100  # the darkest purple
    assert (coloured(np.zeros((4, 4)), signed=True) >= 245).all()


def test_gallery_shows_every_method_once_with_its_label(monkeypatch):
    words, pictures = [], []
    monkeypatch.setattr(Page, "text", lambda self, text, *place, **style: words.append(" ".join(text.split())))
    monkeypatch.setattr(Page, "picture", lambda self, image, *place, **how: pictures.append(image))
    maps = dict.fromkeys(CATALOGUE, np.eye(SIDE, dtype=np.float32))
    gallery_figure(np.zeros((SIDE, SIDE, 3), np.uint8), "Input: a bird", maps)
    assert len(pictures) == len(CATALOGUE) + 1
    assert words[0] == "Input: a bird"
    # A long label may be broken at a hyphen.
    assert [word.replace(" ", "") for word in words[1:-1]] == [row.label.replace(" ", "") for row in CATALOGUE.values()]
    with pytest.raises(InputError, match=r"engine\.methods"):
        gallery_figure(np.zeros((SIDE, SIDE, 3), np.uint8), "", {})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = tmp_path_factory.mktemp("engine") / "synthetic"
    make_dataset(results, "cub200_2011", 3, seed=0)
    make_scores(results, "cub200_2011", "vgg16", seed=1)
    image = pd.read_parquet(results / "targets" / "cub200_2011" / "vgg16.parquet")["image_id"].iloc[0]
    path = results / "comparisons" / "cub200_2011" / "vgg16.npz"
    path.parent.mkdir(parents=True)
    methods = ["saliency", "lrp_epsilon", "clrp"]
    maps = np.random.default_rng(0).standard_normal((3, SIDE, SIDE)).astype(np.float32)
    np.savez_compressed(path, image_id=image, target=1, methods=np.array(methods), maps=maps)
    return results


def test_comparisons_are_read(results, tmp_path):
    read = read_comparisons(results)
    assert list(read) == [("cub200_2011", "vgg16")]
    comparison = read["cub200_2011", "vgg16"]
    assert isinstance(comparison, Comparison)
    assert comparison.target == 1
    assert list(comparison.maps) == ["saliency", "lrp_epsilon", "clrp"]
    assert comparison.maps["clrp"].shape == (SIDE, SIDE)
    with pytest.raises(InputError, match="compare_methods"):
        read_comparisons(tmp_path)


def test_notebook_draws_the_gallery(results, monkeypatch, capsys):
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 60)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 60)
    space = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "gallery", "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space["results"] = str(results)
    stem = results / "figures" / "gallery_cub200_2011_vgg16"
    assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    words = json.loads(stem.with_suffix(".json").read_text())
    assert "3 methods" in words["caption"]
    assert words["rows"][0]["explained"] == "Plain Reed Warbler"
    assert [figure["name"] for figure in engine.galleries(results / "figures", Rows())] == [stem.name]


def test_report_lays_out_costs(tmp_path):
    assert engine.costs(tmp_path, label) is None
    (tmp_path / "tables").mkdir()
    frame = pd.DataFrame(
        {
            "model": ["vgg16", "resnet50", "resnet50"],
            "method": ["lrp_epsilon", "lrp_epsilon", "c3_lrp"],
            "forward_equivalents": [2.0, 2.04, 2.0],
            "forward_equivalents_3": 4.0,
            "seconds_per_image": 0.0123,
            "forwards": 2.5,
            "peak_memory": 1.5,
            "derived_weights_mb": 0.0,
        }
    )
    frame.to_csv(tmp_path / "tables" / "cost.csv", index=False)
    table = engine.costs(tmp_path, label)
    assert table.groups == [("VGG-16", 6), ("ResNet-50", 6)]
    assert len(table.heads) == 12
    names, lines = zip(*table.rows, strict=True)
    assert names == (CATALOGUE["lrp_epsilon"].label, CATALOGUE["c3_lrp"].label)
    assert [entry.text for entry in lines[0][:4]] == ["2.0", "4.0", "12.3", "2.5"]
    assert {entry.text for entry in lines[1][:6]} == {""}  # VGG-16 has no residual blocks
    frame.drop(columns="forwards").to_csv(tmp_path / "tables" / "cost.csv", index=False)
    with pytest.raises(InputError, match="forwards"):
        engine.costs(tmp_path, label)


def test_report_tells_the_worst_leaks(tmp_path):
    assert engine.leaks(tmp_path, label) is None
    (tmp_path / "tables").mkdir()
    rows = [
        ("lrp_epsilon", "conv", 0.2, 0.3),
        ("lrp_epsilon", "conv", -0.1, 0.1),
        ("lrp_epsilon", "batch_norm", 0.1, 0.35),
        ("lrp_epsilon", "add", 0.0, 0.15),
        ("lrp_epsilon", "linear", 0.0, 0.1),
        ("clrp", "conv", 0.0, 1e-7),
        ("saliency", "conv", -12.0, 12.0),
    ]
    frame = pd.DataFrame(rows, columns=["method", "kind", "leak_of_start", "gross_of_start"])
    frame = frame.assign(dataset="imagenet", model="vgg16")
    frame.to_csv(tmp_path / "tables" / "conservation_summary.csv", index=False)
    table = engine.leaks(tmp_path, label)
    assert table.groups == [(label("imagenet"), 1)]
    cells = {name: (line[0].text, line[0].below) for name, line in table.rows}
    assert cells[CATALOGUE["lrp_epsilon"].label] == ("20.0 %", "conv 40, batch norm 35, add 15")
    assert cells[CATALOGUE["clrp"].label] == ("0 %", "conserved")
    assert cells[CATALOGUE["saliency"].label] == ("\N{MINUS SIGN}12 \N{MULTIPLICATION SIGN}", "conv 100")


def test_no_row_of_a_sheet_is_left_with_one_map_where_another_width_fills_it():
    assert [fullest(cells) for cells in (7, 8, 12, 14, 15, 22, 57)] == [7, 8, 6, 7, 8, 8, 6]
    for cells in range(9, 120):
        columns = fullest(cells)
        assert (cells - 1) % columns + 1 > 1
