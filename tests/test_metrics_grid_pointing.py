"""Grid pointing against the authors' numbers, and against a slow statement."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics.grid_pointing import grid_pointing, grid_pointing_at, rank_bins, score, thresholded

REFERENCE = Path(__file__).parent / "reference" / "metrics"


def cells(scale, side):
    """(scale^2, H, W): each cell of a grid, row by row."""
    found = torch.zeros(scale * scale, scale * side, scale * side, dtype=torch.bool)
    for k in range(scale * scale):
        top, left = side * (k // scale), side * (k % scale)
        found[k, top : top + side, left : left + side] = True
    return found


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("kind", ["", "_native"])
def test_reference_vectors(scale, kind):
    """Attributions of 28 x 28 for grids of 64-pixel cells, and at the grid's own size; one map a cell."""
    expected = np.load(REFERENCE / "gridpg.npz")
    maps = torch.from_numpy(expected[f"scale{scale}{kind}_attr"])[:, :, 0]
    grid = cells(scale, 16 if kind else 64).expand(len(maps), -1, -1, -1)
    got = grid_pointing(maps.flatten(0, 1), grid.flatten(0, 1)).view(len(maps), -1)
    np.testing.assert_allclose(got, expected[f"scale{scale}{kind}_scores"], atol=1e-6)
    if not kind:
        np.testing.assert_allclose(got[:, [0, -1]], expected[f"scale{scale}_scores_corners"], atol=1e-6)
        np.testing.assert_allclose(got.mean(), expected[f"scale{scale}_mean"], atol=1e-6)


def test_controls():
    """What knows nothing has the cell's share; what has nothing positive, and what has next to nothing, has 0."""
    cell = cells(2, 10)[1:2]
    offsets = torch.arange(20.0).sub(9.5).square()
    blob = torch.exp(-(offsets[:, None] + offsets) / 50)
    hot, tied = torch.zeros(2, 20, 20)
    hot[3, 15] = 1
    tied[3, 15] = tied[15, 3] = 2
    maps = torch.stack([torch.full((20, 20), 0.3), blob, blob - 2, hot, tied, torch.full((20, 20), 1e-10)])
    got = grid_pointing(maps, cell.expand(6, -1, -1))
    assert got.tolist() == pytest.approx([0.25, 0.25, 0, 1, 0.5, 0])
    assert grid_pointing(maps[:1] * 0 - 1e-30, cell).tolist() == [0]


def test_negatives_vanish_after_the_resize():
    """Two pixels side by side, 1 and -1, made four: 1, .5, -.5, -1; of the positive part all lies left."""
    left = torch.zeros(1, 1, 4, dtype=torch.bool)
    left[..., 0] = True
    assert grid_pointing(torch.tensor([[[1.0, -1.0]]]), left).item() == pytest.approx(1 / 1.5)


def test_top_shares():
    """By hand: of twelve pixels a quarter, three; halves up; ties by raster order, or at once."""
    relevance = torch.tensor([[5.0, 1, 1, 1], [1, 0, 0, 0], [-1, -1, -1, -2]]).expand(3, 3, 4)
    kept = thresholded(relevance, torch.tensor([3 / 12, 2.5 / 12, 0], dtype=torch.float64))
    assert kept.flatten(1).tolist() == [[5, 1, 1, *[0] * 9], [5, 1, 1, *[0] * 9], [0] * 12]
    kept = thresholded(relevance, torch.tensor([3 / 12, 1 / 12, 0]), "at_once")
    assert kept.flatten(1).tolist() == [[5, 1, 1, 1, 1, *[0] * 7], [5, *[0] * 11], [0] * 12]
    with pytest.raises(ValueError, match="from 0 to 1"):
        thresholded(relevance, torch.tensor([0.1, 1.2, 0]))


def test_thresholded_to_the_positive_ratio_of_another_map():
    """A map's own positive ratio changes nothing; a smaller one leaves its peak."""
    generator = torch.Generator().manual_seed(0)
    maps, grid = torch.randn(4, 20, 20, generator=generator), cells(2, 10)
    own = (maps > 0).double().mean((1, 2))
    assert torch.equal(grid_pointing_at(maps, own, grid), grid_pointing(maps, grid))
    peaks = grid_pointing_at(maps, torch.full((4,), 1 / 400), grid)
    at = maps.flatten(1).argmax(1)
    quadrant = at // 20 // 10 * 2 + at % 20 // 10
    assert torch.equal(peaks, (quadrant == torch.arange(4)).double()) and 0 < peaks.sum() < 4


def test_bins():
    """A hundred scores in random order: ranks 0-1, 2-4, 5-49, 50-94, 95-97, 98-99; of equal ones the first is best."""
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    scores = torch.empty(100)
    scores[order] = torch.arange(100, 0, -1.0)
    assert rank_bins(scores)[order].tolist() == [0] * 2 + [1] * 3 + [2] * 45 + [3] * 45 + [4] * 3 + [5] * 2
    assert rank_bins(torch.zeros(4), (50, 100)).tolist() == [0, 0, 1, 1]
    assert rank_bins(torch.zeros(3), (50, 100)).tolist() == [0, 1, 1]
    with pytest.raises(InputError, match="scores: 1 of 2 are NaN and have no rank"):
        rank_bins(torch.tensor([0.5, torch.nan]))


def test_rows():
    """A grid's cells are boxes of their classes; a class that the grid has not has no cell."""
    boxes = [[0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]]
    picture = {"width": 20, "height": 20, "boxes": boxes, "box_labels": [3, 0, 1, 2], "box_difficult": [False] * 4}
    maps = cells(2, 10)[[0, 1, 2, 3, 3]].float()
    maps[3] += 1
    pairs = [(0, 3, {}), (0, 0, {}), (0, 2, {}), (0, 2, {}), (0, 5, {"present": False})]
    case, stored = case_of([picture] * 2, [(i % 2, t, f) for i, (_, t, f) in enumerate(pairs)], maps)
    rows = score(case, "grad_cam", stored)
    got = values_of(rows, "grid_pointing")
    np.testing.assert_allclose(got, [1, 1, 0, 200 / 500, np.nan])
    assert image_scores(rows, "imagenet", "vgg16")["metric"].tolist() == ["grid_pointing"] * 5


def test_bad_arguments():
    with pytest.raises(InputError, match="map 0 contains NaN"):
        grid_pointing(torch.full((1, 4, 4), torch.nan), torch.ones(1, 4, 4))
    with pytest.raises(InputError, match="cells: holds 2"):
        grid_pointing(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 2))
    with pytest.raises(ValueError, match="must be"):
        grid_pointing(torch.zeros(1, 4, 4), torch.ones(2, 4, 4))
