"""Batches as large as the device's memory bears: where it is not enough, half as many images at once, and on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


def as_memory_bears(count: int, batch_size: int, make: Callable[[slice], T]) -> Iterator[T]:
    """What ``make`` makes of 0 .. ``count``, batch by batch, in order.

    Args:
        count: how many there are.
        batch_size: how many at once; halved whenever memory is not enough, and kept at that.
        make: called with a batch's places. What it makes of one must not depend on the others in its batch.

    Raises:
        torch.OutOfMemoryError: memory is not enough for one.
    """
    begin = 0
    while begin < count:
        batch = slice(begin, min(begin + batch_size, count))
        try:
            made = make(batch)
        except torch.OutOfMemoryError:
            taken = batch.stop - batch.start
            if taken == 1:
                raise
            batch_size = taken // 2
            _LOG.warning("memory is not enough for %d images at once; going on with %d", taken, batch_size)
        else:
            yield made
            begin = batch.stop
            continue
        # Only here, outside the handler, has the failed pass let go of what it held.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
