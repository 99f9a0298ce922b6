"""What a network says of a picture without its most relevant pixels, and of these alone before a blurred picture.

Scattered pixels upset a network although they hide nothing from a human reader (Section 5.4): random ones do too.
"""

from __future__ import annotations

import torch
from relmap.metrics.insertion_blur import gaussian_blur
from relmap.metrics.prediction import top_classes
from relmap.metrics.ranking import entry_ranks
from torch import Tensor, nn


def top_pixels(maps: Tensor, share: float, ties: str = "strict") -> Tensor:
    """The most relevant share of each map's pixels, ``ties`` as of :mod:`relmap.metrics.ranking`: (N, H, W) to bool."""
    count = int(share * maps[0].numel() + 0.5)
    return entry_ranks(maps, ties) < count


def removed(images: Tensor, chosen: Tensor) -> Tensor:
    """Normalised images (N, C, H, W) whose chosen pixels (N, H, W) have the mean colour, 0."""
    return images.masked_fill(chosen[:, None], 0.0)


def inserted(images: Tensor, chosen: Tensor, kernel: int, sigma: float) -> Tensor:
    """Blurred images whose chosen pixels are sharp."""
    return torch.where(chosen[:, None], images, gaussian_blur(images, kernel, sigma))


def classes_of(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """The class that the network is surest of, (N,) on the CPU."""
    return top_classes(model, len(images), lambda places: images[places], images.device, batch_size).cpu()


def fragmentation(chosen: Tensor) -> Tensor:
    """Border of each selection over its area, (N,) float64: 4 for single pixels, near 0 for one large region.

    The border is the number of pairs of neighbours, to the right or below, of which one is chosen, or the picture ends.
    """
    padded = torch.nn.functional.pad(chosen.int(), (1, 1, 1, 1))
    border = padded.diff(dim=1).abs().sum((1, 2)) + padded.diff(dim=2).abs().sum((1, 2))
    return border.double() / chosen.sum((1, 2)).clamp(min=1)
