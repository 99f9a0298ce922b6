"""C3-LRP's own: what ties decide, how often its masks differ, its price, its claims and its figures."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from c3lrp_results import make_c3lrp_results
from relmap.catalogue.papers import published, read_paper
from relmap.catalogue.rows import Rows
from relmap.errors import InputError
from relmap.evidence.claims import decide, read_claims
from relmap.evidence.evaluation import tidy
from relmap.evidence.values import CELL
from relmap.metrics.deletion_insertion import points, probabilities
from relmap.models.zoo import build
from torch import nn

from papers.c3lrp.figures.maps import id_words
from papers.c3lrp.figures.read import BRANCH, COLUMNS, OURS, Trained
from papers.c3lrp.masks import correlation_row, correlations, mask_row, with_means
from papers.c3lrp.price import FORWARD, PRINTED, price_table
from papers.c3lrp.ties import bounds, tied_share, ties_table

ROOT = Path(__file__).parents[1]
PAPER = read_paper(ROOT / "papers" / "c3lrp")


def test_tied_pixels_by_hand():
    """Two of four equal, all, none; equal zeros of either sign are one value."""
    maps = np.array([[[1, 2], [2, 3]], [[5, 5], [5, 5]], [[1, 2], [3, 4]], [[0.0, -0.0], [1, 2]]], dtype=np.float32)
    assert tied_share(maps).tolist() == [0.5, 1, 0, 0.5]


class Bright(nn.Module):
    """Two classes, the first by the mean of what is seen: probability 1 / 2 on black, rising with every pixel."""

    def forward(self, images):
        logit = images.mean((1, 2, 3))
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def scored(name, relevance, images, model, levels=4):
    """Score rows of one method as the metric writes them."""
    total = relevance.shape[1] * relevance.shape[2]
    counts, at = points(total, levels)
    black = torch.zeros(3)
    curves = probabilities(
        model,
        images,
        relevance,
        torch.zeros(len(images), dtype=torch.long),
        counts,
        black,
        None,
        ("strict", "at_once"),
        64,
    ).numpy()
    ids, found = [f"i{k}" for k in range(len(images))], []
    for rule, suffix in enumerate(("", "_at_once")):
        area = np.trapezoid(curves[:, rule, 0] - curves[:, rule, 1], at, axis=1)
        found += [
            tidy(ids, [0] * len(ids), name, f"insertion_black_probability{suffix}", curves[:, rule, 0], at),
            tidy(ids, [0] * len(ids), name, f"id_score{suffix}", area),
        ]
    return pd.concat(found, ignore_index=True)


def test_a_constant_map_has_the_bound_with_ties_at_once():
    """White pictures: p rises from 1/2 to sigma(1); by hand, of four steps of which the first has a half trapezoid."""
    images, model = torch.ones(3, 3, 4, 4), Bright()
    ramp = torch.arange(16.0).view(1, 4, 4).expand(3, 4, 4)
    rows = pd.concat([scored("constant", torch.ones(3, 4, 4), images, model), scored("ramp", ramp, images, model)])
    bound = 1 / (1 + np.exp(-1)) - 0.5
    np.testing.assert_allclose(bounds(rows), bound, atol=1e-7)
    table = ties_table([rows, rows], {"constant": 1.0}, ["ramp", "absent", "constant"], {"ramp": "R", "constant": "C"})
    assert table["method"].tolist() == ["ramp", "constant", "bound"] and table["n_trainings"].tolist() == [2, 2, 2]
    at = table.set_index("method")
    # From the first step on the whole picture is there: areas 7/8 of the rise above black, and 1/8 in deletion.
    assert at.loc["constant", "at_once_of_bound"] == pytest.approx(0.75, abs=1e-6)
    assert at.loc["ramp", "difference"] == 0, "a map without ties has one score"
    assert at.loc["constant", "strict"] == pytest.approx(at.loc["ramp", "strict"], abs=1e-7), (
        "all pixels are alike here"
    )
    assert at.loc["bound", "strict_of_bound"] == 1 and at.loc["bound", "strict"] == pytest.approx(bound, abs=1e-7)


def test_masks_are_counted_by_hand():
    """A ring around a dot: the contour is the ring's, filled, the component the ring, so that the dot is cut off."""
    ring = np.zeros((9, 9), dtype=np.float32)
    ring[1:8, 1:8], ring[2:7, 2:7], ring[4, 4] = 1, 0, 1
    # More cells in a row, more area in a small square: the two masks choose different ones, and nothing is left.
    apart = np.zeros((9, 9), dtype=np.float32)
    apart[0, :], apart[4:6, 4:6] = 1, 1
    whole = np.zeros((9, 9), dtype=np.float32)
    whole[2:5, 2:5] = 1
    assert mask_row(np.stack([ring, apart, whole]), side=9) == {
        "changes_component": 1 / 3,
        "changes_contour": 2 / 3,
        "empty": pytest.approx(1 / 3),
        "kept": pytest.approx((24 + 0 + 9) / 243),
        "n_maps": 3,
    }


def test_correlations_are_of_each_map():
    random = np.random.default_rng(0)
    maps = random.standard_normal((4, 5, 5)).astype(np.float32)
    scaled = maps * np.array([2, -3, 1e-12, 0], dtype=np.float32)[:, None, None]
    found = correlations(maps, scaled)
    np.testing.assert_allclose(found[:3], [1, -1, 1], atol=1e-6)
    assert np.isnan(found[3])
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, maps[::-1], strict=True)]
    np.testing.assert_allclose(correlations(maps, maps[::-1]), expected, atol=1e-6)
    assert correlation_row(found) == {
        "least": pytest.approx(-1),
        "median": pytest.approx(1),
        "mean": pytest.approx(1 / 3),
        "n_maps": 3,
    }
    assert np.isnan(correlation_row(np.array([np.nan]))["mean"])


def test_words_have_no_signed_zero():
    assert id_words({"a": -0.001, "b": -0.5}, {"a": 0.004, "b": 0.5}) == {"a": "0.00 | 0.00", "b": "-0.50 | 0.50"}


def test_networks_are_followed_by_their_mean():
    rows = {"model": ["a", "b"], "method": ["m", "m"], "kept": [0.25, 0.75], "least": [0.5, -1.0], "n_maps": [3, 5]}
    rows = pd.DataFrame(rows)
    assert with_means(rows).to_dict("list") == {
        "model": ["a", "b", "all"],
        "method": ["m"] * 3,
        "kept": [0.25, 0.75, 0.5],
        "least": [0.5, -1.0, -1.0],
        "n_maps": [3, 5, 8],
    }


def test_the_papers_network_has_its_parameters():
    """23.9 million, as printed; what is printed as operations is sixteen forward passes, to all its digits."""
    table = price_table("c3_resnet50", ["input_x_gradient"], "meta", 1).set_index("what")
    assert {name: table.loc["the paper", name] for name in PRINTED} == PRINTED
    assert round(table.loc[FORWARD, "parameters_m"], 1) == 23.9
    # Counted layer by layer: a product for each weight that an output is made by.
    counts, model = [], build("c3_resnet50", 200, 1.0, 224, device="meta").eval()

    def count(layer, _, output):
        counts.append(output[0].numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    model(torch.empty(1, 3, 224, 224, device="meta"))
    assert table.loc[FORWARD, "macs_g"] == sum(counts) / 1e9
    assert table.loc["input_x_gradient", "macs_g"] == 2 * sum(counts) / 1e9, "as many backwards"
    assert round(16 * sum(counts) / 1e9, 1) == PRINTED["macs_g"]


@pytest.fixture(scope="module")
def claims():
    printed = pd.concat([published(PAPER, number) for number in PAPER.tables], ignore_index=True)
    methods = list(dict.fromkeys(printed["method"]))
    return printed, read_claims(ROOT / "papers" / "c3lrp" / "claims.yaml", methods)


def test_what_the_paper_says_of_itself(claims):
    printed, read = claims
    empty = pd.DataFrame(columns=[*CELL, "image_id", "target", "value"])
    verdicts = decide(read, empty, printed)[0].set_index("claim")["published_verdict"]
    ours = [claim.id for claim in read if claim.ours]
    assert set(verdicts[ours]) == {"not in the paper"}
    assert verdicts["id_best"] == "rests on suspect cells", "LRP's ID score is not its insertion less its deletion"
    assert set(verdicts.drop([*ours, "id_best"])) == {"supported"}


def test_claims_at_once_decide_nothing_of_the_papers(claims):
    _, read = claims
    for claim in read:
        at_once = {comparison.metric.endswith("_at_once") for comparison in claim.comparisons}
        assert at_once == {claim.id.endswith("at_once")}, claim.id
        assert claim.ours or at_once == {False}


def test_all_cells_can_be_asked_for():
    """29 printed cells, of two models that are trained five times each."""
    printed = pd.concat([published(PAPER, number) for number in PAPER.tables], ignore_index=True)
    assert len(printed) == 29
    assert PAPER.networks == {BRANCH: {"c3_resnet50": "abn_resnet50"}}
    assert set(printed["metric"]) <= Rows().columns().keys() and set(printed["method"]) <= Rows().methods.keys()
    assert len(Rows().trainings("c3_resnet50")) == len(Rows().trainings("abn_resnet50")) == 5


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_c3lrp_results(tmp_path_factory.mktemp("c3lrp"))


def test_figures_read_the_first_training_that_is_there(results, tmp_path):
    trained = Trained(results, "cub200_2011", "c3_resnet50", "abn_resnet50")
    assert (trained.place.model, trained.branch.model) == ("c3_resnet50_1", "abn_resnet50_0")
    assert len(trained.scored) == 6, "pictures that have been scored"
    pair = ("i2", 2)
    assert trained.maps_of([OURS, BRANCH], [pair])[pair].keys() == {OURS, BRANCH}
    words = trained.words_of([pair])[pair]
    assert words.keys() == COLUMNS.keys()
    rows = trained.place.scores("deletion_insertion_black").set_index(["image_id", "metric", "method"])["value"]
    assert words[OURS] == f"{rows['i2', 'id_score', OURS]:.2f} | {rows['i2', 'id_score_at_once', OURS]:.2f}"
    with pytest.raises(InputError, match="no maps of c3_lrp_contour on cub200_2011 with a training of c3_resnet50"):
        Trained(tmp_path, "cub200_2011", "c3_resnet50", "abn_resnet50")


def test_cells_draw_their_figures(results, monkeypatch):
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 50)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 50)
    space: dict = {}
    for cell in nbformat.read(ROOT / "notebooks" / "c3lrp" / "maps.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "maps", "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space["results"] = str(results)
    for number, shown in ((1, 1), (4, 4)):
        stem = results / "figures" / f"c3lrp_figure{number:02}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        words = json.loads(stem.with_suffix(".json").read_text())
        assert words["caption"] and words["selection"] and len(words["rows"]) == shown
