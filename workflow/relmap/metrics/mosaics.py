r"""Mosaics of four images (Arias-Duart et al. 2022), as absLRP's GAE draws and scores them (Section 3.2).

Images are dealt at random into fours. One of each four is positive, at a random place of the 2 x 2 mosaic. Of the
positive image's softmax scores :math:`s`, its class p and the class :math:`n_i` of the image in quadrant i, the score
map is

.. math:: S = 1 \text{ in the positive quadrant}, \qquad \frac{2\, s[n_i]}{s[p]} - 1 \text{ in quadrant } i

so that a quadrant of the positive's own class counts as the positive one. Quadrants are numbered by rows. The two rows
and columns in the middle, where fields of view mix the images, are 1 (the authors' code; the paper does not say).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from relmap.job.seeds import derive

QUADRANTS = 4


def deal(image_ids: Sequence[str], seed: int, at_most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images dealt into mosaics, whatever their order.

    Args:
        image_ids: N different ids.
        seed: of the run.
        at_most: so many mosaics; None for all.

    Returns:
        Places of the images among the ids, (M, 4), up to three left over; a number in [0, 1) a mosaic, (M,), which
        draws its positive image.
    """
    generator = np.random.default_rng(derive(seed, "mosaics"))
    shuffled = np.argsort(np.asarray(image_ids, dtype=str), kind="stable")[generator.permutation(len(image_ids))]
    count = len(shuffled) // QUADRANTS
    lots = generator.random(count)
    return shuffled[: count * QUADRANTS].reshape(count, QUADRANTS)[:at_most], lots[:at_most]


def assembled(images: Tensor) -> Tensor:
    """Mosaics (M, C, H, W) of images (M, 4, C, H, W), each taken at every second pixel (nearest, as PyTorch has it)."""
    height, width = images.shape[-2:]
    rows, columns = (_halves(side, images.device) for side in (height, width))
    quadrants = [images[:, place][..., rows[place // 2], :][..., columns[place % 2]] for place in range(QUADRANTS)]
    return torch.cat([torch.cat(quadrants[:2], -1), torch.cat(quadrants[2:], -1)], -2)


def _halves(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which pixels of a side make its first half, and its second, which is longer where the side is odd."""
    return tuple(torch.arange(half, device=device) * side // max(half, 1) for half in (side // 2, side - side // 2))


def draw_positives(lots: np.ndarray, probabilities: Tensor | None = None) -> Tensor:
    """The positive quadrant of each mosaic, (M,) int64 on the CPU.

    Args:
        lots: (M,) in [0, 1).
        probabilities: of the quadrants, (M, 4), positive and of any sum; uniform without them (the paper).
    """
    lots = torch.from_numpy(lots)
    weights = lots.new_ones(len(lots), QUADRANTS) if probabilities is None else probabilities.double().cpu()
    passed = weights.cumsum(1) <= lots[:, None] * weights.sum(1, keepdim=True)
    return passed.sum(1).clamp(max=QUADRANTS - 1)


def score_maps(logits: Tensor, classes: Tensor, positive: Tensor, size: tuple[int, int]) -> Tensor:
    """What relevance in each pixel of a mosaic counts.

    Args:
        logits: of the positive image, (M, classes).
        classes: of the images in the quadrants, (M, 4).
        positive: quadrant of the positive image, (M,).
        size: height and width of the mosaic.

    Returns:
        (M, H, W), in the logits' type: at most 1, but for classes that the network does not predict.
    """
    chosen = logits.gather(1, classes)
    values = 2 * (chosen - chosen.gather(1, positive[:, None])).exp() - 1
    values = values.scatter(1, positive[:, None], 1.0)
    rows, columns = (torch.arange(side, device=logits.device) >= side // 2 for side in size)
    maps = values[:, (2 * rows[:, None] + columns).long()]
    for axis, side in enumerate(size, start=1):
        maps.narrow(axis, max(side // 2 - 1, 0), min(2, side)).fill_(1.0)
    return maps
