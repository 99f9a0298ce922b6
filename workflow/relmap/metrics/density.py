r"""Positive and negative map density (Jalwana et al. 2021, CAMERAS; UCAG, Table 5).

With x the normalised picture of H W pixels, M its map brought to [0, 1] by its own minimum and maximum, and p the
softmax probability of the target,

.. math::
    D^+ = \frac{p(x \odot M)}{\sum_q M_q} H W, \qquad D^- = \frac{p(x \odot (1 - M))}{\sum_q (1 - M_q)} H W.

High D+ means that little of the picture suffices, low D- that the rest does not. Both have no upper bound but H W: a
map has at least one pixel of 1 and one of 0, so that neither sum is below 1. A constant map has no range, and neither
paper says what M is then; here it is 1/2 everywhere, no opinion (:mod:`relmap.metrics.scaling`), so that D+ and D- are
both 2 p(x / 2). Where M were 0 or 1, one of the two would be infinite.

Rows ``positive_density`` and ``negative_density``. Two forward passes a map, in full batches across images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import by_chunks
from relmap.metrics.prediction import target_probabilities
from relmap.metrics.scaling import to_unit

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``positive_density`` and ``negative_density``, without levels."""
    found = densities(case.model, case.images, case.of(maps), case.targets, case.batch_size)
    names = ("positive_density", "negative_density")
    return pd.concat([case.tidy(method, name, found[:, at]) for at, name in enumerate(names)], ignore_index=True)


def densities(model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor, batch_size: int = 64) -> Tensor:
    """D+ and D- of each map.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K), or a score map of each class.
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance, signed.
        targets: (N,) classes.
        batch_size: pictures of a forward pass. It bounds the memory and does not change the result.

    Returns:
        (N, 2) float64 on the images' device.

    Raises:
        ValueError: maps do not fit the images.
        InputError: a map, or a score that the model gives, is not finite.
    """
    if maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    maps = as_relevance(maps).to(images.device)
    area = maps.shape[1] * maps.shape[2]

    def weighted(positions: Tensor) -> Tensor:
        pair, rest = positions // 2, (positions % 2 == 1).view(-1, 1, 1)
        unit = to_unit(maps[pair])
        return images[pair] * torch.where(rest, 1 - unit, unit).to(images.dtype).unsqueeze(1)

    both = targets.to(images.device).repeat_interleave(2)
    found = target_probabilities(model, both, weighted, batch_size).view(-1, 2)
    sums = by_chunks(lambda some: torch.stack([to_unit(some).sum(1), (1 - to_unit(some)).sum(1)], 1), maps.flatten(1))
    return found / sums * area
