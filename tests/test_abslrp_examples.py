"""absLRP's examples: which are chosen, pictures with two classes, and the evaluation of one mosaic laid open."""

import copy

import numpy as np
import pandas as pd
import pytest
import relmap
import torch
from relmap.catalogue.methods import find
from relmap.errors import InputError
from relmap.figures.overlays import scaled
from relmap.metrics.gae import attribution, evaluate, prepare
from relmap.models import build
from relmap.propagation import Propagator

from papers.abslrp.figures.colours import framed, positive, signed, tinted
from papers.abslrp.figures.names import method_name
from papers.abslrp.halves import class_pairs, composed, halves, own_shares
from papers.abslrp.shown import best_and_worst, mosaic_scores, surest_in_both, surest_mosaic
from papers.abslrp.trace import scored_maps, trace

GAE = {"steps": 4, "masking": "reselect", "score_classes": "predicted", "relative": "paper"}


@pytest.fixture(scope="module")
def network():
    return build("vgg16", 6, 0.0625, 32, seed=3).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def four():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def scores(totals, contrast=None, tops="abcd"):
    """Rows of as many mosaics as there are totals, of two methods; the second's totals are another's."""
    contrast = totals if contrast is None else contrast
    rows = []
    for number, (total, signed_) in enumerate(zip(totals, contrast, strict=True)):
        drawn = {f"mosaic_{place}": f"{tops[place]}{number}" for place in range(4)}
        drawn |= {"image_id": f"{tops[0]}{number}", "target": 0, "quadrant": 0, "explained": 5}
        for metric, value in (("gae_total", total), ("gae_contrastiveness_signed", signed_)):
            rows.append({**drawn, "metric": metric, "method": "abslrp", "value": value})
            rows.append({**drawn, "metric": metric, "method": "grad_cam", "value": -9.0})
    rows.append({"image_id": "z", "target": 1, "metric": "gae_total", "method": "abslrp", "value": np.nan})
    return pd.DataFrame(rows)


def test_scores_a_row_a_mosaic():
    table = mosaic_scores(scores([0.1, 0.4]))
    assert table["gae_total"].tolist() == [0.1, 0.4] and table["image_id"].tolist() == ["a0", "a1"]
    assert table["explained"].tolist() == [5, 5] and table["mosaic_3"].tolist() == ["d0", "d1"]
    with pytest.raises(InputError, match="rap"):
        mosaic_scores(scores([0.1]), "rap")


def test_best_and_worst_with_ties_by_signed_contrastiveness():
    table = mosaic_scores(scores([0.0, 0.3, 0.0, 0.9, 0.0], [-0.5, 0.3, -0.1, 0.9, -0.7]))
    chosen = best_and_worst(table, 2)
    assert chosen["image_id"].tolist() == ["a3", "a1", "a0", "a4"] and chosen["rank"].tolist() == [1, 2, 4, 5]
    with pytest.raises(InputError, match="max_images"):
        best_and_worst(table[:1], 2)
    assert best_and_worst(table, 9)["image_id"].tolist() == ["a3", "a1", "a0", "a4"]
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(best_and_worst(shuffled, 2), chosen)


def test_the_surest_mosaic_has_four_classes_if_any_has():
    table = mosaic_scores(scores([0.1, 0.2, 0.3]))
    images = [f"{letter}{number}" for number in range(3) for letter in "abcd"]
    targets = pd.DataFrame({"image_id": images, "top": [0, 1, 2, 3] * 3, "top_probability": [0.5] * 12})
    targets.loc[targets["image_id"] == "a1", "top_probability"] = 0.9
    targets.loc[targets["image_id"] == "a2", "top_probability"] = 0.7
    assert surest_mosaic(table, targets)["image_id"] == "a1"
    targets.loc[targets["image_id"] == "c1", "top"] = 0
    assert surest_mosaic(table, targets)["image_id"] == "a2"


def test_images_that_two_networks_are_sure_of():
    first = pd.DataFrame({"image_id": list("abcd"), "target": [0, 0, 1, 2], "present": True, "correct": True})
    first["probability"] = [0.9, 0.8, 0.5, 0.99]
    second = first.assign(probability=[0.7, 0.79, 0.9, 0.99], correct=[True, True, True, False])
    assert surest_in_both(first, second, 2)["image_id"].tolist() == ["b", "c"]
    assert surest_in_both(first, second, 9)["image_id"].tolist() == ["b", "c", "a", "d"]


def test_pairs_of_classes_take_an_image_once():
    targets = pd.DataFrame({"image_id": [f"i{n}" for n in range(20)], "target": np.arange(20) % 5, "present": True})
    targets["probability"] = np.where(np.arange(20) < 15, 0.8, 0.3)
    pairs = class_pairs(targets, 9, 0.5, seed=1)
    used = [*pairs["left"], *pairs["right"]]
    known = targets.set_index("image_id")
    assert len(set(used)) == len(used) and (known.loc[used, "probability"] == 0.8).all() and len(pairs) >= 5
    assert (pairs["left_target"] != pairs["right_target"]).all()
    assert pairs["right_target"].tolist() == known.loc[pairs["right"], "target"].tolist()
    pd.testing.assert_frame_equal(class_pairs(targets, 2, 0.5, seed=1), pairs[:2])
    with pytest.raises(InputError, match=r"abslrp\.classes\.confidence"):
        class_pairs(targets[targets["target"] == 0], 9, 0.5, seed=1)
    with pytest.raises(InputError, match=r"leaves 0 images"):
        class_pairs(targets, 9, 0.95, seed=1)


@pytest.mark.parametrize("width", [4, 5])
def test_a_picture_has_the_middles_of_two(width):
    columns = torch.arange(width).expand(1, 3, 2, width)
    made = composed(columns, 10 + columns)
    assert made[0, 0, 0].tolist() == {4: [1, 2, 11, 12], 5: [1, 2, 11, 12, 13]}[width]
    left, right = halves(2, width)
    assert (made[0, 0] < 10).equal(left) and right.equal(~left)


def test_shares_of_relevance_in_each_class_s_half():
    maps = torch.tensor([[[[3.0, -5.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 4.0]]], [[[-1.0] * 4], [[1.0] * 4]]])
    assert own_shares(maps).tolist() == [[0.75, 0.8], [0.0, 0.5]]
    same = torch.rand(5, 1, 6, 6).expand(-1, 2, -1, -1)
    torch.testing.assert_close(own_shares(same).mean(1), torch.full((5,), 0.5, dtype=torch.float64))


def test_a_mosaic_laid_open_is_what_is_scored(network, four):
    arrays = trace(network, four, 2, ("abslrp", "saliency"), GAE, [-1] * 4, batch_size=3)
    trials = prepare(network, four[None], torch.tensor([2]), steps=GAE["steps"])
    assert arrays["target"] == trials.targets[0] and arrays["outputs"].shape == (2, 5)
    # Both orders begin at the image itself.
    logit = copy.deepcopy(network).double()(four[2:3].double())[0, trials.targets[0]].item()
    assert arrays["outputs"][:, 0] == pytest.approx([logit] * 2)
    impacts = trials.states.impacts[:, 0].double()
    parts = impacts / impacts.sum((1, 2, 3), keepdim=True)
    np.testing.assert_allclose(arrays["combined"], (parts[1] - parts[0]).sum(0), atol=1e-6)
    np.testing.assert_allclose(arrays["impacts"], impacts.sum(1), rtol=1e-5)
    for method in ("abslrp", "saliency"):
        found = evaluate(Propagator(network, (3, 32, 32)), trials, find(method))
        for part, values in (
            ("robustness", found.robustness),
            ("faithfulness", found.faithfulness),
            ("contrastiveness", found.contrastiveness_signed),
        ):
            assert arrays[f"{part}/{method}"] == pytest.approx(values[0].item(), abs=1e-5)
        drawn = arrays[f"on_mosaic/{method}"].astype(float)
        share = (drawn * arrays["score_map"]).sum() / drawn.sum()
        assert share == pytest.approx(float(arrays[f"contrastiveness/{method}"]), abs=1e-5)
        apart = np.subtract(*arrays[f"similarities/{method}"][::-1])
        changes = arrays["changes"]
        loss = np.abs(changes - apart).sum() / (np.abs(changes).sum() + np.abs(apart).sum())
        assert 1 - 2 * loss == pytest.approx(float(arrays[f"robustness/{method}"]))


def test_maps_as_they_are_scored(network, four):
    targets = torch.tensor([0, 1, 2, 3])
    found = scored_maps(Propagator(network, (3, 32, 32)), four, targets, "input_x_gradient", 3)
    slow = relmap.explain(network, four, targets, "input_x_gradient", by_channel=True)
    torch.testing.assert_close(found, attribution(slow).sum(1))
    assert found.shape == (4, 32, 32) and (found >= 0).all()


def test_colours():
    values = np.array([[2.0, -2.0], [0.0, 1.0]])
    assert tinted(np.zeros((1, 1))).tolist() == [[[255, 255, 255]]], "white at 0"
    shown, negative = positive(values), signed(values)
    assert shown[0, 1].min() == 255 and (shown[1, 0] == shown[0, 1]).all(), "what speaks against a class is white"
    assert shown[0, 0, 1] < shown[0, 0, 2] < 20 < shown[0, 0, 0] < 128, "dark red"
    assert negative[0, 1, 0] < negative[0, 1, 1] < negative[0, 1, 2], "blue"
    assert np.abs(scaled(values)).max() == 1
    picture = framed(np.zeros((9, 8, 3), dtype=np.uint8), 3)
    assert picture[4, 4].any() and picture[8, 7].any() and not picture[:4].any() and not picture[6, 6].any()


def test_names_as_printed():
    assert (method_name("abslrp"), method_name("clrp_zplus")) == ("absLRP", "cLRP")
    assert method_name("centre_gaussian") == relmap.catalogue.rows.label("centre_gaussian")
