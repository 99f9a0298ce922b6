"""RISE: masks as TorchRay and the C3-LRP group draw them, and the sum over them, each stated mask by mask."""

import math

import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.explainers.rise import RISE, KeioRISE
from relmap.job.seeds import generator
from relmap.propagation import Propagator
from torch import Tensor


@pytest.fixture(scope="module")
def propagator():
    return Propagator(network("vgg16"))


def draws(count: int, cells: int, seed: int = 0) -> Tensor:
    return torch.rand(count, cells**2 + 2, generator=generator(seed, "rise"), dtype=torch.float64)


def torchrays(row: Tensor, height: int, width: int) -> Tensor:
    """One mask (H, W): TorchRay's ``_upsample_reflect`` of 7 x 7 cells, and its cut."""
    cell = [math.ceil(side / 7) for side in (height, width)]
    grid = (row[2:].view(1, 1, 7, 7) < 0.5).double()
    buffered = [height + cell[0], width + cell[1]]
    pixels = [math.ceil(side / 7) for side in buffered]
    large = F.interpolate(F.pad(grid, (1, 1, 1, 1), mode="reflect"), [9 * p for p in pixels], mode="bilinear")
    large = large[0, 0, pixels[0] : pixels[0] + buffered[0], pixels[1] : pixels[1] + buffered[1]]
    top, left = int(row[0] * cell[0]), int(row[1] * cell[1])
    return large[top : top + height, left : left + width]


def keios(row: Tensor, height: int, width: int) -> Tensor:
    """One mask: the C3-LRP group's ``generate_masks``, where normal noise is below 0.3."""
    cell = [math.ceil(side / 9) for side in (height, width)]
    noise = torch.distributions.Normal(0, 1).icdf(row[2:].view(1, 1, 9, 9))
    large = F.interpolate((noise < 0.3).double(), [10 * c for c in cell], mode="bilinear")[0, 0]
    top, left = int(row[0] * cell[0]), int(row[1] * cell[1])
    return large[top : top + height, left : left + width]


@pytest.mark.parametrize("size", [(64, 64), (64, 80), (33, 21), (224, 224)])
@pytest.mark.parametrize(("maker", "cells", "literal"), [(RISE, 7, torchrays), (KeioRISE, 9, keios)])
def test_masks_are_those_of_the_code(propagator, maker, cells, literal, size):
    masks = torch.cat(list(maker(propagator, masks=24).drawn(size, 5)))
    expected = torch.stack([literal(row, *size) for row in draws(24, cells)])
    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-12)
    assert masks.min() >= 0 and masks.max() <= 1 and len(masks.flatten(1).unique(dim=0)) == 24


@pytest.mark.parametrize(
    ("method", "cells", "literal", "score"),
    [
        ("rise", 7, torchrays, lambda z, t: 1 / (1 + math.exp(-z[t]))),
        ("rise_softmax", 7, torchrays, lambda z, t: float(z.softmax(0)[t])),
        ("rise_keio", 9, keios, lambda z, t: float(z.softmax(0)[t])),
    ],
)
def test_the_map_is_the_weighted_sum(propagator, method, cells, literal, score):
    images, targets = inputs()
    found = relmap.explain(propagator, images[:2], targets.T[:2], method, masks=12)
    model = network("vgg16")
    for image, classes, maps in zip(images, targets.T, found, strict=False):
        for target, ours in zip(classes.tolist(), maps, strict=True):
            expected = torch.zeros(64, 64, dtype=torch.float64)
            for row in draws(12, cells):
                mask = literal(row, 64, 64)
                expected += score(model((image * mask)[None])[0], target) * mask
            if method == "rise_keio":
                expected = (expected - expected.min()) / (expected.max() - expected.min())
            else:
                expected /= 12 * 0.5
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_defaults_are_the_published_numbers(propagator):
    assert RISE(propagator).masks == 8000
    keio = KeioRISE(propagator)
    assert (keio.masks, keio.cells) == (5000, 9) and keio.keep == pytest.approx(0.6179114221889526, abs=1e-15)
    kept = torch.cat(list(KeioRISE(propagator, masks=2000).drawn((9, 9), 500)))
    assert kept.mean().item() == pytest.approx(keio.keep, abs=0.01)


def test_neither_batches_nor_their_size_change_a_map(propagator):
    images, targets = inputs()
    whole = relmap.explain(propagator, images[:4], targets.T[:4], "rise", masks=20)
    for batch, batch_size in ((1, 4), (7, 4), (64, 3), (64, 1)):
        found = relmap.explain(
            propagator, images[:4], targets.T[:4], "rise", masks=20, batch=batch, batch_size=batch_size
        )
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=0)


def test_a_longer_run_begins_with_a_shorter_ones_masks(propagator):
    short, long = (torch.cat(list(RISE(propagator, masks=n).drawn((64, 64), 7))) for n in (9, 50))
    assert torch.equal(long[:9], short)
    other = torch.cat(list(RISE(propagator, masks=9, seed=1).drawn((64, 64), 9)))
    assert not torch.equal(other, short)


def test_the_law_of_the_mean(propagator):
    """Of a network whose score does not see the image, the map is that score times the masks' mean over P(c = 1)."""

    class Blind(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 2, 1).double()
            torch.nn.init.zeros_(self.layer.weight)
            self.layer.bias.data = torch.tensor([0.3, -1.2], dtype=torch.float64)

        def forward(self, x):
            return self.layer(x).mean((2, 3))

    images = inputs()[0][:2]
    maps = relmap.explain(Blind(), images, [[0, 1], [0, 1]], "rise", masks=400)
    mean = torch.cat(list(RISE(propagator, masks=400).drawn((64, 64), 100))).mean(0)
    for k, z in enumerate((0.3, -1.2)):
        torch.testing.assert_close(maps[:, k], (mean / 0.5 / (1 + math.exp(-z))).expand(2, 64, 64))
    rescaled = relmap.explain(Blind(), images, 0, "rise_keio", masks=50)
    assert rescaled.amin() == 0 and rescaled.amax() == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"masks": 0}, "masks is 0; give at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"cells": 1}, "cells is 1; give at least 2"),
        ({"keep": 0.0}, "keep is 0.0; give a probability above 0"),
        ({"border": "zeros"}, "border 'zeros' is unknown; choose one of reflect, replicate"),
        ({"score": "logit"}, "score 'logit' is unknown; choose one of sigmoid, softmax"),
    ],
)
def test_refusals(propagator, given, words):
    with pytest.raises(InputError, match=words):
        RISE(propagator, **given)


def test_only_pictures_are_masked(propagator):
    with pytest.raises(InputError, match="its masks are of pictures"):
        RISE(propagator)(torch.zeros(1, 3, 9, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long))
