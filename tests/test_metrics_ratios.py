"""Positive ratio and outside-inside ratio."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics import outside_inside as out_in
from relmap.metrics import positive_ratio as positive
from relmap.metrics.outside_inside import outside_inside
from relmap.metrics.positive_ratio import positive_ratio

REFERENCE = Path(__file__).parent / "reference" / "metrics"


@pytest.mark.parametrize("region", ["mask", "bbox"])
def test_outside_inside_of_the_vectors(region):
    """Six kinds of maps of eight images; the constant ones, which are NaN there, tell nothing apart: 1."""
    arrays, expected = np.load(REFERENCE / "maps.npz"), np.load(REFERENCE / "segmentation_density.npz")
    regions = torch.from_numpy(arrays["masks"])
    if region == "bbox":
        regions = torch.zeros_like(regions)
        for one, (x0, y0, x1, y1) in zip(regions, arrays["bbox_xyxy"], strict=True):
            one[y0 : y1 + 1, x0 : x1 + 1] = True
    maps = torch.from_numpy(arrays["maps"])
    got = outside_inside(maps.flatten(0, 1), regions.unsqueeze(1).expand_as(maps).flatten(0, 1)).view(8, 6)
    theirs = expected[f"outin_{region}"]
    assert np.isnan(theirs[:, 4]).all() and (got[:, 4] == 1).all()
    np.testing.assert_allclose(got, np.nan_to_num(theirs, nan=1), rtol=1e-5)
    np.testing.assert_allclose(
        got.mean(0)[[0, 1, 2, 3, 5]], expected[f"outin_{region}_mean"][[0, 1, 2, 3, 5]], rtol=1e-5
    )


def controls():
    """Constant, centre blob, its negative, one hot pixel outside, one inside, the mask, its complement; 20 x 20."""
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[7:13, 7:13] = True
    offsets = torch.arange(20.0).sub(9.5).square()
    blob = torch.exp(-(offsets[:, None] + offsets) / 50)
    outside, inside = torch.zeros(2, 20, 20)
    outside[0, 0] = inside[9, 9] = 1
    maps = torch.stack([torch.full((20, 20), -0.1), blob, -blob, outside, inside, mask.float(), 1 - mask.float()])
    return maps, mask.expand(7, 20, 20)


def test_outside_inside_controls():
    """No opinion is 1; what has nothing inside is worse than that, and finite; what has nothing outside is 0."""
    constant, blob, negative, outside, inside, itself, complement = outside_inside(*controls()).tolist()
    assert constant == 1 and inside == itself == 0
    # A blob in the centre does well at central objects, knowing nothing.
    assert blob == pytest.approx(0.32158, abs=1e-5) and negative > 1
    # 36 pixels of mask: mean outside 1 / 364 over the least mean inside, 1 / 400.
    assert outside == pytest.approx(400 / 364) and complement == 400


def test_a_ratio_never_exceeds_the_pixels_and_grows_with_what_is_outside():
    """Maps with ever less inside: the ratio rises to the bound and stays there."""
    maps = controls()[0][6:].repeat(5, 1, 1)
    masks = controls()[1][:5]
    maps[:, 9, 9] = torch.tensor([1.0, 0.1, 0.01, 1e-4, 0.0])
    got = outside_inside(maps, masks)
    np.testing.assert_allclose(got, [36, 360, 400, 400, 400], rtol=1e-6)


def test_outside_inside_restated_slowly():
    draw = np.random.default_rng(0)
    maps, masks = draw.normal(size=(6, 9, 8)).astype(np.float32), draw.random((6, 9, 8)) < 0.4
    scaled = [(m.astype(float) - m.min()) / (float(m.max()) - float(m.min())) for m in maps]
    expected = [s[~mask].mean() / s[mask].mean() for s, mask in zip(scaled, masks, strict=True)]
    np.testing.assert_allclose(outside_inside(torch.from_numpy(maps), torch.from_numpy(masks)), expected, rtol=1e-6)
    # It does not change with the scale of relevance, nor with its origin.
    again = outside_inside(torch.from_numpy(maps).double() * 1e-9 - 3, torch.from_numpy(masks))
    np.testing.assert_allclose(again, expected, rtol=1e-5)


def test_masks_without_an_outside_or_an_inside_give_no_answer():
    maps = torch.rand(2, 5, 5)
    masks = torch.stack([torch.zeros(5, 5), torch.ones(5, 5)]).bool()
    assert outside_inside(maps, masks).isnan().all()
    with pytest.raises(InputError, match="masks: holds 255"):
        outside_inside(maps, masks.byte() * 255)
    with pytest.raises(InputError, match="map 0 contains NaN"):
        outside_inside(maps / 0, masks)
    with pytest.raises(ValueError, match="must both be"):
        outside_inside(maps, masks[:1])


def test_positive_ratio():
    """Counted by hand; constant, all-negative and zero maps; zero is not positive."""
    maps = torch.zeros(5, 4, 5)
    maps[0, 0, :3], maps[0, 2] = 1e-30, -1
    maps[1], maps[2] = 7, -7
    maps[4, 3, 3] = 1
    assert positive_ratio(maps).tolist() == pytest.approx([3 / 20, 1, 0, 0, 1 / 20])
    with pytest.raises(InputError, match="map 2 contains NaN"):
        positive_ratio(maps.index_fill(0, torch.tensor([2]), torch.inf))


def test_rows():
    """Every pair has a positive ratio, of absent classes too; outside-inside wants a mask."""
    maps, masks = controls()
    pairs = [(i, 0, {"present": i != 2}) for i in range(7)]
    case, stored = case_of([{"width": 20, "height": 20}] * 7, pairs, maps)
    case.masks = masks
    ratio = positive.score(case, "grad_cam", stored)
    assert values_of(ratio, "positive_ratio") == pytest.approx([0, 1, 0, 1 / 400, 1 / 400, 36 / 400, 364 / 400])
    outside = out_in.score(case, "grad_cam", stored)
    assert values_of(outside, "outside_inside_ratio")[0] == 1
    for rows in (ratio, outside):
        assert len(image_scores(rows, "imagenet", "vgg16")) == 7
