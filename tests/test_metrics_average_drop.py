"""Average drop, average increase and ADCC, picture by picture, and what they give maps that say nothing."""

import math

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.catalogue.methods import Method
from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.metrics.adcc import adcc, correlation
from relmap.metrics.adcc import score as adcc_score
from relmap.metrics.average_drop import score
from torch import nn

PICTURES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MAPS = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(1)).numpy()


class Square(Explainer):
    """The channel sum of x^2, less a half."""

    def __init__(self, model):
        pass

    def __call__(self, images, targets):
        return (images.square().sum(1) - 0.5).unsqueeze(1).expand(-1, targets.shape[1], -1, -1)


def net():
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def a_case(order, maps=MAPS, images=5):
    pictures = [{"width": 8, "height": 8, "labels": [0]} for _ in range(5)]
    row = Method("square", "", "", Square)
    given = {"model": net(), "methods": {"square": row}, "settings": {"adcc": {"images": images}}}
    case, stored = case_of(pictures, [(k, k % 3, {}) for k in order], maps[order], **given)
    case.__dict__["images"] = PICTURES[order]
    case.of_first_images(images).__dict__["images"] = PICTURES[
        [k for k in order if f"p{k}" in case.first_images(images)]
    ]
    return case, stored


def normalised(one):
    positive = np.clip(one.astype(np.float64), 0, None)
    return positive / positive.max() if positive.max() > 0 else positive


def probability(picture, target):
    return net()(torch.from_numpy(picture).float()[None]).double().softmax(1)[0, target].item()


def literal(k, maps=MAPS):
    """Drop, increase, coherency, complexity and ADCC of one picture."""
    picture, mask = PICTURES[k].double().numpy(), normalised(maps[k])
    masked = picture * mask
    before, after = probability(picture, k % 3), probability(masked, k % 3)
    drop = max(0.0, before - after) / before
    again = normalised((masked**2).sum(0) - 0.5)
    coherency = 0.5 * (1 + np.corrcoef(again.ravel(), mask.ravel())[0, 1])
    complexity = np.abs(mask).sum() / mask.size
    return (
        drop,
        float(after > before),
        coherency,
        complexity,
        3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)),
    )


def test_restated_slowly_and_independent_of_batch_and_order():
    expected = np.array([literal(k) for k in range(5)])
    assert 0 < expected[:, 1].sum() < 5
    for order, batch_size in (([0, 1, 2, 3, 4], 64), ([0, 1, 2, 3, 4], 1), ([3, 1, 4, 0, 2], 2)):
        case, stored = a_case(order)
        case.batch_size = batch_size
        rows = score(case, "square", stored)
        np.testing.assert_allclose(values_of(rows, "average_drop"), expected[order, 0], rtol=1e-5, atol=1e-7)
        assert values_of(rows, "average_increase") == expected[order, 1].tolist()
        rows = adcc_score(case, "square", stored)
        for name, column in (("adcc_coherency", 2), ("adcc_complexity", 3), ("adcc", 4)):
            np.testing.assert_allclose(values_of(rows, name), expected[order, column], rtol=1e-4, err_msg=name)


def test_maps_that_say_nothing():
    """All of the picture: no drop, no rise, and as complex as can be. Nothing of it: what an empty picture loses."""
    case, stored = a_case([0, 1, 2], np.ones((5, 8, 8), np.float32))
    rows = score(case, "square", stored)
    assert values_of(rows, "average_drop") == [0.0] * 3 and values_of(rows, "average_increase") == [0.0] * 3
    rows = adcc_score(case, "square", stored)
    assert values_of(rows, "adcc") == [0.0] * 3 and values_of(rows, "adcc_coherency") == [0.5] * 3
    assert values_of(rows, "adcc_complexity") == [1.0] * 3
    case, stored = a_case([0, 1, 2], -np.ones((5, 8, 8), np.float32))
    empty = [max(0.0, 1 - probability(np.zeros((3, 8, 8)), k) / probability(PICTURES[k].numpy(), k)) for k in range(3)]
    np.testing.assert_allclose(values_of(score(case, "square", stored), "average_drop"), empty, rtol=1e-5)


def test_first_images_and_no_row():
    case, stored = a_case([0, 1, 2, 3, 4], images=2)
    assert adcc_score(case, "square", stored)["image_id"].unique().tolist() == ["p0", "p1"]
    with pytest.raises(InputError, match="no row of method other"):
        adcc_score(case, "other", stored)


def test_the_mean_is_harmonic_and_correlation_pearson_s():
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    value, coherency, complexity = adcc(mask, mask, torch.tensor([0.5], dtype=torch.float64))
    assert coherency == pytest.approx(1) and complexity == 0.25
    assert value.item() == pytest.approx(3 / (1 + 1 / 0.75 + 2))
    opposite, *_ = adcc(mask, 1 - mask, torch.zeros(1, dtype=torch.float64))
    assert opposite == pytest.approx(0, abs=1e-12)
    lost, *_ = adcc(mask, mask, torch.ones(1, dtype=torch.float64))
    assert lost == 0
    first, second = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(4)).double()
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(correlation(first, second), expected, atol=1e-12)
    assert correlation(first[:1], torch.full((1, 50), 0.1)).item() == 0 and not math.isnan(
        correlation(mask[0], mask[0])[1]
    )
