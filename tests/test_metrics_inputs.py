"""What metrics take: masks that say yes or no, maps that are finite; and what a miss is worth."""

import numpy as np
import pandas as pd
import pytest
import torch
from relmap.errors import InputError
from relmap.evidence.evaluation import tidy
from relmap.evidence.statistics import bootstrap_mean
from relmap.evidence.values import image_scores
from relmap.metrics import chunks
from relmap.metrics.attribute_parts import score_regions
from relmap.metrics.average_precision import above_mean, soft_average_precision
from relmap.metrics.grid_pointing import grid_pointing
from relmap.metrics.lerf import lerf_predictions, removal_steps
from relmap.metrics.outside_inside import outside_inside
from relmap.metrics.pointing import extended_pointing
from relmap.metrics.relevance_mass import mass_accuracy, rank_accuracy
from relmap.metrics.segmentation import iou_at_mean_plus_std
from torch import nn

OF_MASKS = {"pointing": extended_pointing, "iou": iou_at_mean_plus_std}
OF_MAPS = {
    **{name: lambda m, f=f: f(m, region()[: len(m)]) for name, f in OF_MASKS.items()},
    "lerf": lambda m: removal_steps(m, 3),
}


def maps():
    return torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(0))


def region():
    inside = torch.zeros(3, 20, 20, dtype=torch.bool)
    inside[:, 5:12, 5:12] = True
    return inside


@pytest.mark.parametrize("name", OF_MASKS)
def test_zeros_and_ones_are_a_mask_in_any_type(name):
    expected = OF_MASKS[name](maps(), region())
    assert 0 < expected.mean() < 1
    for dtype in (torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64):
        assert torch.equal(OF_MASKS[name](maps(), region().to(dtype)), expected), dtype


OTHER = {
    "a picture's": region().byte() * 255,
    "a label's": region().long() * 2,
    "several labels'": region().long() + region().flip(1).long(),
    "shares": region().float() * 0.5,
    "negative": -region().int(),
    "NaN": region().float().masked_fill(region(), torch.nan),
    "infinite": region().double().masked_fill(region(), torch.inf),
}


@pytest.mark.parametrize("name", OF_MASKS)
@pytest.mark.parametrize("kind", OTHER)
def test_other_masks_are_refused_by_name(name, kind):
    with pytest.raises(InputError, match=r"(inside|masks): holds .* is boolean, or 0 and 1; give (inside|masks) > 0"):
        OF_MASKS[name](maps(), OTHER[kind])


@pytest.mark.parametrize("name", OF_MAPS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_map_that_is_not_finite_is_refused_by_name(name, value):
    bad = maps()
    bad[1, 3, 4] = value
    with pytest.raises(InputError, match="map 1 contains NaN or infinity"):
        OF_MAPS[name](bad)


@pytest.mark.parametrize("name", OF_MAPS)
def test_whole_numbers_are_ranked_as_numbers(name):
    """Unsigned numbers have no negative, which a sort in descending order may take."""
    whole = torch.randint(0, 9, (3, 20, 20), generator=torch.Generator().manual_seed(1))
    expected = OF_MAPS[name](whole.double())
    for dtype in (torch.uint8, torch.int16, torch.int64):
        assert torch.equal(OF_MAPS[name](whole.to(dtype)), expected)


IN_CHUNKS = {
    "soft_average_precision": soft_average_precision,
    "above_mean": lambda m, region: above_mean(m).flatten(1),
    "grid_pointing": grid_pointing,
    "outside_inside": outside_inside,
    "mass": mass_accuracy,
    "rank": rank_accuracy,
}


@pytest.mark.parametrize("name", IN_CHUNKS)
def test_no_map_depends_on_the_others(name):
    """More maps than are worked on at once, of three kinds in turn: each has the value that it has alone."""
    function = IN_CHUNKS[name]
    alone = torch.cat([function(maps()[i : i + 1], region()[:1]) for i in range(3)])
    count = chunks.PIXELS // (3 * 400) + 1
    together = function(maps().repeat(count, 1, 1), region()[:1].expand(3 * count, -1, -1))
    assert torch.equal(together, alone.repeat(count, *[1] * (alone.dim() - 1)))
    assert function(maps()[:0], region()[:0]).shape == alone[:0].shape, "none is no error"


@pytest.mark.parametrize("name", OF_MASKS)
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_map_that_points_nowhere_is_a_miss(name, value):
    nowhere = torch.full((3, 20, 20), value)
    assert (OF_MASKS[name](nowhere, region()) == 0).all()


def test_a_constant_map_points_everywhere():
    """Ties are kept together: hits over kept pixels is the region's share of the picture, at every energy."""
    assert (extended_pointing(torch.ones(3, 20, 20), region()) == 49 / 400).all()


def test_a_model_that_predicts_nothing_is_refused():
    class Broken(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] / 0

    with pytest.raises(InputError, match="NaN or infinity for some images"):
        lerf_predictions(Broken(), torch.zeros(3, 1, 20, 20), maps(), 2, 3)


def test_regions_take_labels_and_yes_or_no():
    labels, boxes = torch.randint(0, 3, (2, 9, 9)), torch.tensor([[[1.0, 1.0, 4.0, 4.0]]]).expand(2, 1, 4)
    labels[:, 0, 0] = 2
    telling = torch.tensor([[False, False, True]]).expand(2, 3)
    expected = score_regions(labels, telling, boxes)
    for name, values in score_regions(labels.float(), telling.int(), boxes).items():
        assert torch.equal(values, expected[name])
    with pytest.raises(InputError, match=r"part_maps: holds \d\.5"):
        score_regions(labels + 0.5, telling, boxes)
    with pytest.raises(InputError, match="part_maps: holds -1"):
        score_regions(labels - 1, telling, boxes)
    with pytest.raises(InputError, match="distinguishing: holds 255"):
        score_regions(labels, telling.byte() * 255, boxes)
    with pytest.raises(InputError, match="boxes: NaN"):
        score_regions(labels, telling, boxes * torch.nan)


def rows(values):
    """IoU rows of two methods for as many images as there are values."""
    ids = [f"image_{i}" for i in range(len(values))]
    first = tidy(ids, [0] * len(ids), "lrp_epsilon", "iou", np.full(len(ids), 0.5))
    return first, tidy(ids, [0] * len(ids), "abslrp", "iou", np.array(values, float))


def test_no_method_is_spared_an_image():
    """A pair without a value would raise the mean of the one method that lacks it."""
    first, second = rows([0.1, np.nan, 0.3])
    with pytest.raises(InputError, match="iou of abslrp for image image_1 with target 0 is NaN"):
        image_scores(pd.concat([first, second]), "imagenet", "vgg16")
    for infinity in (np.inf, -np.inf):
        with pytest.raises(InputError, match="is infinite"):
            image_scores(pd.concat(rows([0.1, infinity])), "imagenet", "vgg16")
    levels = tidy(["a", "b"], [0, 0], "abslrp", "pointing", np.array([[0.1, np.nan], [0.2, 0.3]]), [0.5, 1.0])
    with pytest.raises(InputError, match=r"image a .* is NaN, but other values of this pair are known"):
        image_scores(levels, "imagenet", "vgg16")


def test_an_image_without_an_answer_is_left_out_for_all_and_counted():
    first, second = rows([0.1, np.nan, 0.3])
    scores = image_scores(pd.concat([first.assign(value=second["value"]), second]), "imagenet", "vgg16")
    interval = bootstrap_mean(scores[scores["method"] == "abslrp"]["value"].to_numpy())
    assert (interval.n, interval.pairs) == (2, 2) and interval.mean == pytest.approx(0.2)
