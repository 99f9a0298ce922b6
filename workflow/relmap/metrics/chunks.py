"""Few maps at a time: what bounds the memory of a metric whatever the number of images, and keeps it in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PIXELS = 1 << 18
"""Pixels of maps worked on at once."""


def split(*tensors: Tensor, pixels: int = PIXELS) -> Iterator[tuple[Tensor, ...]]:
    """Rows of tensors (N, ...), together, of at most so many elements of the last one; at least one row."""
    rows = max(1, pixels // max(1, tensors[-1][:1].numel()))
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def by_chunks(function: Callable[..., Tensor], *tensors: Tensor, pixels: int = PIXELS) -> Tensor:
    """``function`` of rows of tensors (N, ...), which gives a value, or a row, for each: its results in one tensor."""
    return torch.cat([function(*parts) for parts in split(*tensors, pixels=pixels)])
