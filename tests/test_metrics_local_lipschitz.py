"""The local Lipschitz estimate: the authors' arrays, the definition slowly, and what must hold of any map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.catalogue.methods import Method
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.explainers.base import Explainer
from relmap.job.seeds import generator
from relmap.metrics.local_lipschitz import attribution, lipschitz_ratios, score
from torch import nn

REFERENCE = Path(__file__).parent / "reference" / "metrics"


@pytest.mark.parametrize("kind", ["raw", "maxnorm"])
def test_their_ratios(kind):
    """Eight draws of three images: every ratio, the greatest, and Quantus' on one image at a time."""
    with np.load(REFERENCE / "lipschitz.npz") as stored:
        maps, noise = (torch.from_numpy(stored[name]) for name in ("attributions", "deltas"))
        expected = {name: stored[f"{kind}_{name}"] for name in ("ratios", "max", "mean", "first")}
        quantus = stored[f"quantus_batch1_{kind}"]
    if kind == "maxnorm":  # the stored maps are positive: their maximum is their greatest absolute value
        maps = attribution(maps.flatten(0, 1)).view(maps.shape)
    before = maps[:1].expand(8, -1, -1, -1)
    got = lipschitz_ratios(before.flatten(0, 1), maps[1:].flatten(0, 1), noise.flatten(0, 1)).view(8, 3)
    np.testing.assert_allclose(got, expected["ratios"], atol=1e-5)
    np.testing.assert_allclose(got.amax(0), expected["max"], atol=1e-5)
    np.testing.assert_allclose(got.mean(0), expected["mean"], atol=1e-5)
    np.testing.assert_allclose(got[0], expected["first"], atol=1e-5)
    np.testing.assert_allclose(got.amax(0), quantus, atol=1e-5)


def test_published_random():
    """Standard normal maps at 224 x 224 pixels: the 1.123 that absLRP prints for Random, of one draw.

    Uniform maps have (H W / 6)^.5 / (.1 (3 H W)^.5) = 2.357, whatever the size.
    """
    draws = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(16, 3, 224, 224, generator=draws)
    normal = torch.randn(2, 16, 224, 224, generator=draws)
    got = lipschitz_ratios(attribution(normal[0]), attribution(normal[1]), noise)
    assert got.mean().item() == pytest.approx(1.123, abs=0.02)
    uniform = torch.rand(2, 16, 224, 224, generator=draws)
    got = lipschitz_ratios(attribution(uniform[0]), attribution(uniform[1]), noise)
    assert got.mean().item() == pytest.approx((1 / 18) ** 0.5 / 0.1, abs=0.01)


class Square(Explainer):
    """The channel sum of x^2 for class 0, minus it for class 1."""

    def __init__(self, model):
        pass

    def __call__(self, images, targets):
        return images.square().sum(1).unsqueeze(1) * (1 - 2 * targets.to(images.dtype))[..., None, None]


class Level(Explainer):
    """A constant map whose height depends on the picture."""

    def __init__(self, model):
        pass

    def __call__(self, images, targets):
        return images.mean((1, 2, 3)).exp().view(-1, 1, 1, 1).expand(*targets.shape, *images.shape[2:])


METHODS = {row.id: row for row in (Method("square", "", "", Square), Method("level", "", "", Level))}


def a_case(order, maps, target=0, **settings):
    pictures = [{"width": 12, "height": 12, "labels": [0]} for _ in range(5)]
    settings = {"local_lipschitz": {"draws": 3, "images": None, "deviation": 0.1, **settings}}
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 2))
    # As tight as the pictures: noise leaves it.
    model.input_range = tuple(
        tuple(pictures_of(range(5)).movedim(1, 0).flatten(1).aminmax(dim=1)[k].tolist()) for k in (0, 1)
    )
    pairs = [(k, target, {}) for k in order]
    case, stored = case_of(pictures, pairs, maps[order], settings, model=model, methods=METHODS, seed=7)
    case.__dict__["images"] = pictures_of(order)
    return case, stored


def pictures_of(order):
    return torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))[order]


def test_rows_restated_slowly_and_independent_of_batch_and_order():
    order = [0, 1, 2, 3, 4]
    images = pictures_of(order)
    maps = images.square().sum(1).numpy()
    expected = np.zeros((5, 3))
    for place, image in enumerate(images.double().numpy()):
        for d in range(3):
            noise = 0.1 * torch.randn(3, 12, 12, generator=generator(7, "local_lipschitz", f"p{place}", d)).numpy()
            first, second = ((own**2).sum(0) for own in (image, image + noise))
            first, second = first / first.max(), second / second.max()
            expected[place, d] = np.sqrt(((second - first) ** 2).sum() / (noise.astype(np.float64) ** 2).sum())
    found = []
    for places, batch_size in ((order, 64), (order, 1), (order, 4), ([3, 1, 4, 0, 2], 7)):
        case, stored = a_case(places, maps, images=None)
        case.batch_size = batch_size
        rows = score(case, "square", stored)
        found.append(rows.sort_values(["image_id", "level"])["value"].to_numpy().reshape(5, 3))
    for got in found:
        np.testing.assert_allclose(got, np.maximum.accumulate(expected, axis=1), rtol=1e-5)
    scores = image_scores(rows, "made", "net")
    assert values_of(scores.sort_values("image_id"), "local_lipschitz") == found[-1][:, -1].tolist()


def test_first_images_and_controls():
    order = [0, 1, 2, 3, 4]
    case, stored = a_case(order, np.ones((5, 12, 12)), images=2)
    case.of_first_images(2).__dict__["images"] = pictures_of([0, 1])
    rows = score(case, "level", stored)
    assert rows["image_id"].unique().tolist() == ["p0", "p1"] and (rows["value"].abs() < 1e-6).all()
    # Negative everywhere is a map of 0; so is the next one.
    case, stored = a_case(order, -pictures_of(order).square().sum(1).numpy(), target=1)
    assert (score(case, "square", stored)["value"] == 0).all()
    with pytest.raises(InputError, match="no row of method other"):
        score(case, "other", stored)
    with pytest.raises(InputError, match="map 1 contains NaN"):
        attribution(torch.tensor([[[1.0]], [[torch.nan]]]))
    assert attribution(torch.tensor([[[-1.0, 2.0, 4.0]], [[-1.0, -2.0, 0.0]]])).tolist() == [[[0, 0.5, 1]], [[0, 0, 0]]]
