"""A device whose memory is not enough for a batch: fewer at once, the same numbers."""

import logging

import pytest
import relmap
import torch
from relmap.job.memory import as_memory_bears
from relmap.models.inference import class_scores
from torch import nn


class Small(nn.Module):
    """A network on a device that holds ``most`` images."""

    def __init__(self, most):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.body.append(nn.Linear(6, 4))
        self.most, self.asked = most, []

    def forward(self, images):
        return self.body(images)


class Held(Small):
    """The same, that fails as CUDA does; not traced through, for it counts."""

    def forward(self, images):
        self.asked.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.body(images)


IMAGES = torch.randn(11, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_a_batch_is_halved_until_it_fits_and_stays_so():
    asked = []

    def make(batch):
        asked.append((batch.start, batch.stop))
        if batch.stop - batch.start > 3:
            raise torch.OutOfMemoryError("too large")
        return list(range(batch.start, batch.stop))

    assert [one for found in as_memory_bears(11, 8, make) for one in found] == list(range(11))
    assert asked == [(0, 8), (0, 4), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]


def test_what_does_not_fit_alone_is_an_error():
    def make(batch):
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        list(as_memory_bears(2, 2, make))


def test_other_errors_are_not_tried_again():
    asked = []

    def make(batch):
        asked.append(batch)
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        list(as_memory_bears(4, 4, make))
    assert len(asked) == 1


@pytest.mark.parametrize("most", [1, 3, 5])
def test_scores_are_those_of_a_device_with_room(most, caplog):
    with caplog.at_level(logging.WARNING):
        found = class_scores(Held(most), IMAGES, 8)
    torch.testing.assert_close(found, class_scores(Small(11), IMAGES, 8), rtol=1e-6, atol=1e-6)
    assert "memory is not enough for 8 images at once; going on with 4" in caplog.text


@pytest.mark.parametrize("method", ["lrp_epsilon", "saliency", "smoothgrad", "rise"])
def test_maps_are_those_of_a_device_with_room(method, monkeypatch):
    """Of methods that share a pass, and of those that run the network many times on noise of each image's own."""
    from relmap import explanation

    model, targets, original = Small(11).eval(), torch.arange(11) % 4, explanation._maps_of_batch
    given = {method: {"masks": 8} if method == "rise" else {}}
    expected = relmap.compare(model, IMAGES, targets, given, batch_size=11)[method]
    sizes = []

    def limited(together, images, known, first):
        sizes.append(len(images))
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(together, images, known, first)

    monkeypatch.setattr(explanation, "_maps_of_batch", limited)
    found = relmap.compare(model, IMAGES, targets, given, batch_size=11)[method]
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
