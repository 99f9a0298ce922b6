"""Average precision, pixel accuracy and IoU against the authors' numbers, and against a slow statement."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics.average_precision import (
    above_mean,
    agf_average_precision,
    average_precision,
    mean_iou,
    overlaps,
    pixel_accuracy,
    score,
    soft_average_precision,
)

REFERENCE = Path(__file__).parent / "reference" / "metrics"


@pytest.fixture(scope="module")
def shared():
    """Maps (48, 64, 64), six of each of eight images; masks; the authors' numbers."""
    arrays = np.load(REFERENCE / "maps.npz")
    maps, masks = torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["masks"])
    masks = masks.unsqueeze(1).expand_as(maps).flatten(0, 1)
    return maps.flatten(0, 1), masks, np.load(REFERENCE / "segmentation_density.npz")


def test_average_precision_of_the_vectors(shared):
    maps, masks, expected = shared
    soft = soft_average_precision(maps, masks).view(8, 6)
    np.testing.assert_allclose(soft, expected["tibav_ap"], atol=1e-5)
    np.testing.assert_allclose(soft.mean(0), expected["tibav_mAP"], atol=1e-5)
    binarised = agf_average_precision(maps, masks).view(8, 6)
    np.testing.assert_allclose(binarised, expected["agf_ap"], atol=1e-6)
    np.testing.assert_allclose(binarised.mean(0), expected["agf_mAP"], atol=1e-6)
    centred = agf_average_precision(maps - maps.mean((1, 2), keepdim=True), masks).view(8, 6)
    np.testing.assert_allclose(centred, expected["agf_minus_mean_ap"], atol=1e-6)


@pytest.mark.parametrize("protocol", ["tibav", "agf"])
def test_pixels_of_the_vectors(shared, protocol):
    """Counts are equal; the authors' pooled IoU follows from them, and so does their accuracy from ours by image."""
    maps, masks, expected = shared
    chosen = above_mean(maps) if protocol == "tibav" else maps > 0
    accuracy = pixel_accuracy(chosen, masks).view(8, 6)
    np.testing.assert_array_equal(accuracy * 4096, expected[f"{protocol}_correct"])
    np.testing.assert_allclose(accuracy.mean(0), expected[f"{protocol}_pixacc"], atol=1e-6)
    intersection, union = (counts.view(8, 6, 2) for counts in overlaps(chosen, masks))
    np.testing.assert_array_equal(intersection, expected[f"{protocol}_inter"])
    np.testing.assert_array_equal(union, expected[f"{protocol}_union"])
    pooled = (intersection.sum(0).double() / union.sum(0)).mean(1)
    np.testing.assert_allclose(pooled, expected[f"{protocol}_mIoU"], atol=1e-6)
    by_image = (expected[f"{protocol}_inter"] / expected[f"{protocol}_union"].clip(min=1)).mean(2)
    np.testing.assert_allclose(mean_iou(chosen, masks).view(8, 6), by_image, atol=1e-7)


def test_pixels_of_the_vectors_less_their_mean(shared):
    """What the authors do to maps of LRP and FullGrad: positive is then what exceeds the mean."""
    maps, masks, expected = shared
    accuracy = pixel_accuracy(above_mean(maps), masks).view(8, 6)
    np.testing.assert_array_equal(accuracy * 4096, expected["agf_minus_mean_correct"])
    np.testing.assert_allclose(accuracy.mean(0), expected["agf_minus_mean_pixacc"], atol=1e-6)


def slow(scores, right):
    """Sum over distinct thresholds, from the highest, of recall gained times precision."""
    total, before, result = right.sum(), 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        kept = scores >= threshold
        recall = (kept & right).sum() / total
        result += (recall - before) * (kept & right).sum() / kept.sum()
        before = recall
    return result


def test_restated_slowly():
    """Few distinct scores, so that most are tied; and all distinct."""
    generator = torch.Generator().manual_seed(0)
    for levels in (2, 5, 1000):
        scores = torch.randint(0, levels, (20, 60), generator=generator).double()
        right = torch.rand(20, 60, generator=generator) < 0.3
        right[:, 0] = True
        expected = [slow(a.numpy(), b.numpy()) for a, b in zip(scores, right, strict=True)]
        np.testing.assert_allclose(average_precision(scores, right), expected, atol=1e-12)
    maps, masks = torch.randint(-3, 4, (9, 6, 7), generator=generator).float(), torch.zeros(9, 6, 7).bool()
    masks[:, 2:4, 1:6] = True
    positive = (maps > 0).double().flatten(1)
    for some, expected in (
        (soft_average_precision(maps, masks), (maps.flatten(1).double() + 3) / 6),
        (agf_average_precision(maps, masks), positive),
    ):
        both = torch.cat([1 - expected, expected], 1).numpy(), torch.cat([~masks, masks], 1).flatten(1).numpy()
        wide = torch.cat([~masks.flatten(1), masks.flatten(1)], 1).numpy()
        np.testing.assert_allclose(some, [slow(s, r) for s, r in zip(both[0], wide, strict=True)], atol=1e-12)


def test_nothing_right_is_no_answer():
    assert average_precision(torch.rand(2, 5), torch.zeros(2, 5, dtype=torch.bool)).isnan().all()


def controls():
    """A constant map, a centre blob, an all-negative blob, one hot pixel outside, the mask itself; 20 x 20, 6 x 6."""
    masks = torch.zeros(5, 20, 20, dtype=torch.bool)
    masks[:, 7:13, 7:13] = True
    offsets = torch.arange(20.0).sub(9.5).square()
    blob = torch.exp(-(offsets[:, None] + offsets) / 50)
    hot = torch.zeros(20, 20)
    hot[0, 0] = 1
    return torch.stack([torch.full((20, 20), 0.1), blob, blob - 2, hot, masks[0].float()]), masks


def test_controls():
    """A map of no opinion has 1/2, wherever the object is; a blob is good at central objects; signs do not matter to
    the soft protocol and decide AGF's, whose least is 7/16."""
    maps, masks = controls()
    soft, binarised = soft_average_precision(maps, masks), agf_average_precision(maps, masks)
    constant, blob, negative, hot, itself = soft.tolist()
    assert constant == 0.5 and itself == 1 and blob == pytest.approx(negative, abs=1e-6)
    assert 0.9 < blob < 1
    # One wrong pixel first, twice; then the 399 others with 36 wrong ones, at once; the wrong halves last.
    assert hot == pytest.approx((363 / 400) * (363 / 400) + (37 / 400) * (400 / 800), abs=1e-12)
    share = 36 / 400
    assert binarised.tolist() == pytest.approx(
        [
            share**2 + (1 - share) / 2,
            share**2 + (1 - share) / 2,
            (1 - share) ** 2 + share / 2,
            (363 / 400) ** 2 + (37 / 400) / 2,
            1,
        ]
    )
    quarter = torch.zeros(1, 2, 2, dtype=torch.bool)
    quarter[0, 0, 0] = True
    assert agf_average_precision(torch.ones(1, 2, 2), quarter).item() == 0.4375


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3, 1e-7, 12345.678])
def test_nothing_of_a_constant_map_exceeds_its_mean(value):
    constant = torch.full((1, 7, 6), value)
    assert not above_mean(constant).any() and not above_mean(constant.double()).any()


def test_iou_leaves_out_what_neither_has():
    full = torch.ones(1, 4, 4, dtype=torch.bool)
    assert mean_iou(full, full).tolist() == [1]
    half = full.clone()
    half[0, :2] = False
    assert mean_iou(half, full).tolist() == [(0 / 8 + 8 / 16) / 2]


def test_rows():
    """Six names; a picture with an empty mask has no answer by any."""
    maps, masks = controls()
    masks = masks.clone()
    masks[1] = False
    case, stored = case_of([{"width": 20, "height": 20}] * 5, [(i, 0, {}) for i in range(5)], maps)
    case.masks = masks
    rows = score(case, "grad_cam", stored)
    got = values_of(rows, "soft_average_precision")
    assert np.isnan(got[1]) and got[0] == 0.5 and got[4] == 1
    assert image_scores(rows, "imagenet", "vgg16")["metric"].nunique() == 6


def test_bad_arguments():
    maps, masks = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    for function in (soft_average_precision, agf_average_precision):
        with pytest.raises(InputError, match="map 0 contains NaN"):
            function(maps / 0, masks)
        with pytest.raises(ValueError, match="must both be"):
            function(maps, masks[:1])
        with pytest.raises(InputError, match="masks: holds 255"):
            function(maps, masks.byte() + 255)
