"""Maps brought to [0, 1]."""

from __future__ import annotations

from torch import Tensor

from relmap.metrics.checks import as_relevance


def to_unit(maps: Tensor) -> Tensor:
    """Each map less its minimum, over its range: from 0 to 1. A constant map, which has no range, is 1/2 everywhere.

    Args:
        maps: (N, ...) relevance.

    Returns:
        Like ``maps``, float64.

    Raises:
        InputError: a map is not finite.
    """
    flat = as_relevance(maps).flatten(1).double()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    constant = low == high
    scaled = (flat - low) / (high - low).masked_fill(constant, 1)
    return scaled.masked_fill(constant, 0.5).view(maps.shape)
