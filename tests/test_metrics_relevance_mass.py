"""Relevance mass and rank accuracy against a slow statement, and what would fool them."""

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics.relevance_mass import mass_accuracy, rank_accuracy, score_boxes, score_masks


def test_restated_slowly():
    draw = np.random.default_rng(0)
    maps, inside = draw.normal(size=(12, 7, 6)), draw.random((12, 7, 6)) < 0.3
    mass, rank = [], []
    for relevance, region in zip(maps, inside, strict=True):
        positive = np.maximum(relevance, 0)
        mass.append(positive[region].sum() / positive.sum())
        top = set(np.argsort(-relevance.ravel(), kind="stable")[: region.sum()])
        rank.append(len(top & set(np.flatnonzero(region))) / region.sum())
    arguments = torch.from_numpy(maps), torch.from_numpy(inside)
    np.testing.assert_allclose(mass_accuracy(*arguments), mass, atol=1e-12)
    np.testing.assert_allclose(rank_accuracy(*arguments), rank, atol=1e-12)
    np.testing.assert_allclose(rank_accuracy(*arguments, "at_once"), rank, atol=1e-12)


def controls():
    """Constant, all-negative blob, zero, a hot pixel outside, the region; a 6 x 6 region in the middle of 20 x 20."""
    inside = torch.zeros(5, 20, 20, dtype=torch.bool)
    inside[:, 7:13, 7:13] = True
    offsets = torch.arange(20.0).sub(9.5).square()
    blob = torch.exp(-(offsets[:, None] + offsets) / 50)
    hot = torch.zeros(20, 20)
    hot[0, 0] = 1
    return torch.stack([torch.full((20, 20), 0.3), blob - 2, torch.zeros(20, 20), hot, inside[0].float()]), inside


def test_controls():
    """Mass: a constant map has the region's share, no positive pixel is a miss. Rank: signs do not matter, and a tie is
    broken in raster order, so that 36 tied pixels are two rows of the picture; all of it where ties come whole."""
    maps, inside = controls()
    assert mass_accuracy(maps, inside).tolist() == pytest.approx([36 / 400, 0, 0, 0, 1])
    strict, at_once = rank_accuracy(maps, inside), rank_accuracy(maps, inside, "at_once")
    assert strict[[0, 2, 3, 4]].tolist() == [0, 0, 0, 1]
    assert at_once[[0, 2, 3, 4]].tolist() == pytest.approx([36 / 400, 36 / 400, 36 / 400, 1])
    assert 0.8 < strict[1] < 1, "a blob that knows nothing finds a central object, though it is all negative"


def test_no_region_is_no_answer():
    maps, inside = torch.ones(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    assert mass_accuracy(maps, inside).isnan().all() and rank_accuracy(maps, inside).isnan().all()
    assert rank_accuracy(maps, inside, "at_once").isnan().all()


def test_rows():
    """Boxes of the target; a class that is absent has no answer. Masks of the picture."""
    maps, inside = controls()
    picture = {"width": 20, "height": 20, "boxes": [[7, 7, 13, 13], [0, 0, 1, 1]], "box_labels": [0, 1]}
    pairs = [(0, 0, {}), (1, 0, {}), (2, 2, {"present": False}), (3, 1, {}), (4, 0, {})]
    case, stored = case_of([picture] * 5, pairs, maps, {"ties": "strict"})
    boxes = score_boxes(case, "grad_cam", stored)
    np.testing.assert_allclose(values_of(boxes, "relevance_mass"), [36 / 400, 0, np.nan, 1, 1])
    np.testing.assert_allclose(values_of(boxes, "relevance_rank")[2:], [np.nan, 1, 1])
    case.masks = inside
    masks = score_masks(case, "grad_cam", stored)
    np.testing.assert_allclose(values_of(masks, "relevance_mass_masks"), [36 / 400, 0, 0, 0, 1])
    for rows in (boxes, masks):
        assert len(image_scores(rows, "imagenet", "vgg16")) == 10


@pytest.mark.parametrize("function", [mass_accuracy, rank_accuracy])
def test_bad_arguments(function):
    with pytest.raises(InputError, match="map 0 contains NaN"):
        function(torch.full((1, 4, 4), torch.inf), torch.ones(1, 4, 4))
    with pytest.raises(InputError, match="inside: holds 255"):
        function(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 255))
    with pytest.raises(ValueError, match="must both be"):
        function(torch.zeros(1, 4, 4), torch.ones(1, 4, 5))
