"""What AE's own figures rest on: the mark, the edges, inner channels, scattered pixels, and the numbers drawn."""

import numpy as np
import pandas as pd
import pytest
import torch
from relmap.errors import InputError
from relmap.explainers.equilibrium import AttributionEquilibrium
from relmap.figures.pairs import examples
from relmap.figures.sheet import shown_map
from relmap.inspection.comparison import rightly_classified, spread_over_classes
from relmap.models import build
from relmap.propagation import Propagator

from papers.ae.channels import VARIANTS, channel_attributions
from papers.ae.edges import backgrounds, before, edges_of
from papers.ae.figures.curves import level_means, pointing_by_gamma, relative
from papers.ae.figures.grids import ENDS, bin_examples
from papers.ae.shares import share_row
from papers.ae.watermark import places, stamped, strokes, training_labels


def test_share_of_positive_relevance():
    maps = torch.tensor([[[3.0, 1.0], [-5.0, 0.0]], [[-1.0, -1.0], [-1.0, 0.0]]])
    region = torch.tensor([[[True, False], [True, False]]] * 2)
    row = share_row({"method": "m"}, maps, region, seed=0)
    assert (row["share"], row["area"], row["n_images"]) == (0.375, 0.5, 2), "no positive relevance is a miss"
    region[0] = False
    row = share_row({"method": "m"}, maps, region, seed=0)
    assert (row["share"], row["area"], row["n_images"]) == (0.0, 0.5, 1), "an empty region asks nothing"


def test_pictures_in_turn_of_each_class_rightly_classified():
    frame = pd.DataFrame({"image_id": list("abcdefg"), "target": [0, 0, 0, 1, 1, 2, 2], "present": True})
    frame["predicted"] = [True, True, True, True, False, True, True]
    frame = rightly_classified(frame)
    chosen = spread_over_classes(frame, 4, seed=1)
    assert sorted(chosen["target"][:3]) == [0, 1, 2] and "e" not in set(chosen["image_id"])
    pd.testing.assert_frame_equal(spread_over_classes(frame, 2, seed=1), chosen[:2])
    assert len(spread_over_classes(frame, 99, seed=1)) == 6


def test_the_mark_lies_inside_and_only_in_its_rectangle():
    side, mark = 64, strokes(64, 0.5)
    assert mark.shape == (11, 32) and mark.max() == 1 and 0.1 < mark.mean() < 0.7
    where = places(50, side, tuple(mark.shape), seed=2)
    assert (where >= 0).all() and (where + np.array(mark.shape) <= side).all() and len(np.unique(where, axis=0)) > 10
    pixels = torch.full((50, 3, side, side), 100, dtype=torch.uint8)
    pictures, region = stamped(pixels, mark, where, 0.8)
    assert region.sum((1, 2)).tolist() == [11 * 32] * 50
    assert (pictures[~region[:, None].expand_as(pictures)] == 100).all()
    top, left = where[7]
    expected = (100 + mark * 0.8 * 155).round().to(torch.uint8)
    assert torch.equal(pictures[7, 1, top : top + 11, left : left + 32], expected)


def test_only_what_is_said_to_be_of_the_class_is_marked():
    labels = np.repeat(np.arange(4), 20)
    marked, said = training_labels(labels, 2, 0.9, 0.1, seed=3)
    assert marked[labels == 2].sum() == 18 and marked[labels != 2].sum() == 6
    assert (said[marked] == 2).all() and (said[~marked] == labels[~marked]).all()
    marked, said = training_labels(labels, 2, 1.0, 0.0, seed=3)
    assert (marked == (labels == 2)).all() and (said == labels).all()


def test_objects_before_edges():
    fields = backgrounds(6, 24, 0.6, seed=0)
    assert set(fields.unique().tolist()) == {51, 204}
    upright, level, chequered = fields[:3]
    assert (upright == upright[:1]).all() and (level == level[:, :1]).all()
    assert not (chequered == chequered[:1]).all() and not (chequered == chequered[:, :1]).all()
    small = torch.tensor([[[0, 0, 0, 9], [0, 0, 0, 9], [0, 0, 0, 9]]])
    assert edges_of(small)[0].tolist() == [[False, False, True, True]] * 3
    objects = torch.zeros(6, 24, 24, dtype=torch.bool)
    objects[:, 5:15, 8:20] = True
    pixels = torch.randint(0, 255, (6, 3, 24, 24), dtype=torch.uint8)
    pictures, edges = before(pixels, objects, fields)
    inside = objects[:, None].expand_as(pixels)
    assert torch.equal(pictures[inside], pixels[inside]) and not (edges & objects).any()
    assert torch.equal(pictures[:, 1][~objects], fields[~objects]) and edges.any()


def test_channels_are_the_walks_own_and_the_same_in_both_variants():
    model = build("vgg16", 4, 0.0625, 32, seed=0).double().eval().requires_grad_(False)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets, propagator = torch.tensor([1, 3]), Propagator(model)
    arrays = channel_attributions(propagator, images, targets, layers=3, channels=2)
    layers = [str(name) for name in arrays["layers"]]
    assert len(layers) == 3 and layers[0].startswith("features.2") and layers[-1] == "features.1"
    for variant, terms in VARIANTS.items():
        explain = AttributionEquilibrium(propagator, gamma=1.0, terms=terms)
        activations = propagator.forward(images, explain.walks, (explain.layer,))
        kept = explain.propagate(activations, targets[None], capture=set(layers)).captured
        found = {layer: kept[layer][0] for layer in layers}
        for layer in layers:
            chosen = arrays[f"{layer}/chosen"]
            np.testing.assert_allclose(arrays[f"{layer}/{variant}/sum"], found[layer].sum(1), rtol=1e-4, atol=1e-6)
            own = np.stack([one[c] for one, c in zip(found[layer].numpy(), chosen, strict=True)])
            np.testing.assert_allclose(arrays[f"{layer}/{variant}/channels"], own, rtol=1e-4, atol=1e-6)
            if variant == "with":
                mass = found[layer].abs().sum((2, 3)).numpy()
                np.testing.assert_array_equal(np.sort(chosen, 1), np.sort(np.argsort(-mass, 1)[:, :2], 1))


def test_scattered_pixels():
    pytest.importorskip("relmap.metrics.ranking")
    from papers.ae.scattered import fragmentation, inserted, removed, top_pixels

    maps = torch.arange(36.0).view(1, 6, 6)
    chosen = top_pixels(maps, 1 / 6)
    assert chosen[0, 5].all() and chosen.sum() == 6
    assert top_pixels(torch.zeros(1, 6, 6), 1 / 6)[0, 0].all(), "ties in raster order"
    assert top_pixels(torch.zeros(1, 6, 6), 1 / 6, "at_once").all(), "a tie comes whole"
    images = torch.randn(1, 3, 6, 6)
    assert (removed(images, chosen)[0, :, 5] == 0).all() and torch.equal(
        removed(images, chosen)[0, :, :5], images[0, :, :5]
    )
    shown = inserted(images, chosen, 3, 1.0)
    assert torch.equal(shown[0, :, 5], images[0, :, 5]) and not torch.equal(shown, images)
    single, block = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    single[0, 1, 1] = single[0, 4, 4] = True
    block[0, 1:3, 1:3] = True
    assert fragmentation(torch.cat([single, block])).tolist() == [4.0, 2.0]


def test_means_by_level_and_relative_accuracy():
    rows = [("a", 1.0, 1.0), ("a", 1.0, 0.0), ("b", 1.0, 1.0), ("a", 2.0, 1.0), ("b", 2.0, np.nan)]
    frame = pd.DataFrame(rows, columns=["image_id", "level", "value"]).assign(method="m", metric="x")
    curves = level_means(frame, draws=50)
    assert curves["mean"].tolist() == [pytest.approx(2 / 3), 1.0] and curves["images"].tolist() == [2, 1]
    assert relative(curves, 0.5)["mean"].tolist() == [pytest.approx(4 / 3), 2.0]
    with pytest.raises(InputError, match="no whole picture"):
        relative(curves, 0.0)


def test_pointing_against_gamma_is_the_mean_over_classes():
    pairs = pd.DataFrame({"image_id": list("aabcd"), "target": [0, 1, 0, 0, 1], "counted": [True] * 4 + [False]})
    pairs = pairs.assign(present=[True, True, True, True, True], difficult=[True, False, False, True, False])
    scores = pairs[["image_id", "target"]].assign(method="one", metric="pointing_game", value=[1.0, 0, 0, 1, 1])
    points = pointing_by_gamma(scores, pairs, {1.0: "one"}, draws=50).set_index("subset")
    assert points.loc["ALL", "mean"] == pytest.approx((2 / 3 + 0) / 2)
    assert points.loc["DIF", "mean"] == 1.0 and points.loc["DIF", "images"] == 2
    with pytest.raises(InputError, match="gamma 2"):
        pointing_by_gamma(scores, pairs, {1.0: "one", 2.0: "two"}, draws=50)


def test_bins_are_those_of_the_metric():
    metric = pytest.importorskip("relmap.metrics.grid_pointing")
    assert metric.BINS == ENDS
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"image_id": [f"g{n}" for n in range(200)], "target": 0, "value": random.random(200)})
    chosen = bin_examples(frame.assign(method="m", kept="full"), "m")
    assert len(chosen) == 6 and chosen["value"].is_monotonic_decreasing
    ranked = metric.rank_bins(torch.tensor(frame["value"].tolist())).tolist()
    bins = dict(zip(frame["image_id"], ranked, strict=True))
    assert [bins[image] for image in chosen["image_id"]] == list(range(6))
    with pytest.raises(InputError, match="no rows of other"):
        bin_examples(frame.assign(method="m", kept="full"), "other")


def test_examples_are_right_sure_and_of_different_classes():
    rows = [("a", 0, 0.9, True), ("b", 0, 0.95, True), ("c", 1, 0.5, True), ("d", 2, 0.99, False)]
    rows += [("e", 0, 0.8, True), ("e", 2, 0.7, True), ("f", 0, 0.9, True), ("f", 2, 0.1, True)]
    frame = pd.DataFrame(rows, columns=["image_id", "target", "probability", "predicted"]).assign(present=True)
    assert examples(frame, 1, 2) == [("b", 0), ("c", 1)]
    assert examples(frame, 1, 4)[2:] == [("d", 2), ("a", 0)], "wrong ones before repeated classes"
    assert examples(frame, 2, 1) == [("e", 0), ("e", 2)]


def test_colours():
    shown = shown_map(np.array([[0.0, 1.0], [-1.0, 1 / 6]]))
    assert shown[0, 0].min() == 255
    assert shown[0, 1, 0] > shown[0, 1, 2] + 50 and shown[1, 0, 2] > shown[1, 0, 0] + 50
    assert shown[1, 1, 0] > shown[1, 1, 2], "a sixth of the largest is half as red"
    assert shown_map(np.zeros((2, 2))) == "0 everywhere"
