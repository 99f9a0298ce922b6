"""Mean IoU at mean + standard deviation against the reference vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from relmap.metrics.segmentation import iou_at_mean_plus_std

REFERENCE = Path(__file__).parent / "reference" / "metrics"


def test_reference_vectors():
    arrays = np.load(REFERENCE / "maps.npz")
    maps, masks = torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["masks"])
    got = iou_at_mean_plus_std(maps.flatten(0, 1), masks.unsqueeze(1).expand_as(maps).flatten(0, 1)).view(8, 6)
    expected = np.load(REFERENCE / "segmentation_density.npz")
    np.testing.assert_allclose(got, expected["clam_iou_ddof0"], atol=1e-7)
    np.testing.assert_allclose(got.mean(0), expected["clam_mean_iou_ddof0"], atol=1e-7)


def test_by_hand():
    """3 of 16 pixels stand out (mean 3/16, deviation 0.39); two of them lie in a mask of four: 2 / (3 + 4 - 2)."""
    relevance, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    relevance[0, 0, :3] = 1
    mask[0, :2, 1:3] = True
    assert iou_at_mean_plus_std(relevance, mask).item() == 2 / 5


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -0.3, 1e-7, 12345.678])
def test_what_does_not_exceed_the_threshold_is_not_selected(value):
    """A constant map, and one of which half the pixels equal mean plus deviation: strictly nothing lies above."""
    mask = torch.zeros(2, 7, 6, dtype=torch.bool)
    mask[0, 0, 0] = True
    for dtype in (torch.float32, torch.float64):
        constant = torch.full((2, 7, 6), value, dtype=dtype)
        half = constant.flatten(1).clone()
        half[:, ::2] = 0
        for relevance in (constant, half.view(2, 7, 6).abs()):
            assert iou_at_mean_plus_std(relevance, mask).tolist() == [0, 0]
