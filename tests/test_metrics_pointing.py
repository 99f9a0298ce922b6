"""Extended pointing against the reference vectors and against a literal restatement."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from relmap.metrics import pointing
from relmap.metrics.pointing import extended_pointing

REFERENCE = Path(__file__).parent / "reference" / "metrics"


@pytest.fixture(scope="module")
def shared():
    arrays = np.load(REFERENCE / "maps.npz")
    maps, masks = torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["masks"])
    boxes = torch.zeros_like(masks)
    for region, (x0, y0, x1, y1) in zip(boxes, arrays["bbox_xyxy"], strict=True):
        region[y0 : y1 + 1, x0 : x1 + 1] = True
    return maps, {"mask": masks, "bbox": boxes}


@pytest.mark.parametrize("region", ["mask", "bbox"])
def test_reference_vectors(shared, region):
    """Six kinds of maps of eight images at twenty levels: equal to the last bit; where no pixel is positive, theirs
    is NaN and ours a miss."""
    maps, regions = shared
    expected = np.load(REFERENCE / "energy_pointing.npz")
    inside = regions[region].unsqueeze(1).expand_as(maps)
    got = extended_pointing(maps.flatten(0, 1), inside.flatten(0, 1)).unflatten(0, maps.shape[:2])
    theirs = expected[f"{region}_acc_f64"]
    np.testing.assert_array_equal(np.isnan(theirs), (maps.flatten(2) <= 0).all(2)[..., None].expand_as(got))
    np.testing.assert_array_equal(got, np.nan_to_num(theirs))
    means = got[:, :5].mean(0)
    halves = torch.stack([means[:, :10].mean(1), means[:, 10:].mean(1), means.mean(1)], dim=1)
    np.testing.assert_allclose(halves, expected[f"{region}_mean_of_images_low_high_all_f64"][:5], atol=1e-12)


def test_restated_with_exact_fractions():
    """Few positive pixels with many ties, against Eq. 6 written out with rational numbers."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(-3, 4, (40, 5, 7), generator=generator).float()
    inside = torch.rand(40, 5, 7, generator=generator) < 0.4
    got = extended_pointing(maps, inside)
    for row, (relevance, region) in enumerate(zip(maps, inside, strict=True)):
        positive = sorted((v for v in relevance.flatten().tolist() if v > 0), reverse=True)
        for level in range(1, 21):
            if not positive:
                assert got[row, level - 1] == 0
                continue
            k = max(1, int(Fraction(level, 20) * len(positive) + Fraction(1, 2)))
            kept = relevance >= positive[k - 1]
            assert got[row, level - 1] == (kept & region).sum().item() / kept.sum().item()


def test_independent_of_the_batch(shared, monkeypatch):
    maps, regions = shared
    maps, inside = maps[:, 3], regions["bbox"]
    together = extended_pointing(maps, inside)
    monkeypatch.setattr(pointing, "_PIXELS_PER_SORT", 1)
    assert torch.equal(extended_pointing(maps, inside), together)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must both be"):
        extended_pointing(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5, dtype=torch.bool))
