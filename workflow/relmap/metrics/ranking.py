"""In which order a map gives its pixels, and what happens to pixels of equal relevance.

Ties decide whole tables: a map that is 0 outside an object has one tie as large as the background. Two rules are in
use. ``strict`` takes pixels one by one, of equal ones the first in raster order, so that n pixels are n pixels.
``at_once`` takes every pixel at or above the n-th value, so that a tie comes whole: a constant map is one step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import split

TIES = ("strict", "at_once")

# Pixels ranked at once; bounds the memory of the sort.
_PIXELS_PER_SORT = 1 << 20


def entry_ranks(maps: Tensor, ties: str = "strict", descending: bool = True) -> Tensor:
    """How many pixels must be wanted, less one, for a pixel to be among them: the first n are those of rank < n.

    Args:
        maps: (N, ...) relevance.
        ties: ``strict``, ranks 0 to P - 1, each once; ``at_once``, all of a tie have the rank of its first.
        descending: the most relevant pixel first; else the least relevant one.

    Returns:
        Like ``maps``, int32.

    Raises:
        InputError: a map is not finite, or another rule of ties.
    """
    if ties not in TIES:
        raise InputError(f"config: `evaluation.ties` is {ties!r}; choose {' or '.join(TIES)}")
    flat = as_relevance(maps).flatten(1)
    ranks = torch.empty(flat.shape, dtype=torch.int32, device=flat.device)
    for some, out in split(flat, ranks, pixels=_PIXELS_PER_SORT):
        values, order = some.sort(dim=1, stable=True, descending=descending)
        places = torch.arange(flat.shape[1], dtype=torch.int32, device=flat.device).expand_as(order)
        out.scatter_(1, order, places if ties == "strict" else _first_of_tie(values, places))
    return ranks.view(maps.shape)


def taken(maps: Tensor, counts: Tensor, ties: str = "strict", ranks: Tensor | None = None) -> Tensor:
    """How many pixels are taken, most relevant first, where so many are wanted.

    A tie comes whole at the end of the strict order too, so that what ``at_once`` takes are the first so many of it.

    Args:
        maps: (N, ...) relevance of P pixels.
        counts: (T,) numbers wanted, 0 to P.
        ties: as in ``entry_ranks``; ``strict`` takes what is wanted.
        ranks: the strict ranks of the maps, where they are known.

    Returns:
        (N, T) int64: the numbers wanted, or under ``at_once`` of the pixels at or above the last one that is wanted.

    Raises:
        InputError: a map is not finite, or another rule of ties.
    """
    if ties not in TIES:
        raise InputError(f"config: `evaluation.ties` is {ties!r}; choose {' or '.join(TIES)}")
    wanted = counts.to(maps.device, torch.int64).expand(len(maps), -1)
    if ties == "strict":
        return wanted
    flat, ranks = as_relevance(maps).flatten(1), entry_ranks(maps) if ranks is None else ranks
    found = torch.empty_like(wanted)
    for want, out, order, some in split(wanted, found, ranks.flatten(1), flat, pixels=_PIXELS_PER_SORT):
        falling = torch.empty_like(some).scatter_(1, order.long(), some)
        last = falling.gather(1, (want - 1).clamp(min=0))
        out.copy_(torch.searchsorted(-falling, -last, right=True))
    return found.masked_fill(wanted == 0, 0)


def average_ranks(maps: Tensor) -> Tensor:
    """Ranks from 1 on, ascending; equal pixels share the mean of theirs, as Spearman's correlation takes them.

    Args:
        maps: (N, ...) relevance.

    Returns:
        Like ``maps``, float64.

    Raises:
        InputError: a map is not finite.
    """
    flat = as_relevance(maps).flatten(1)
    first = entry_ranks(flat, "at_once", descending=False).double()
    last = flat.shape[1] - 1 - entry_ranks(flat, "at_once").double()
    return ((first + last) / 2 + 1).view(maps.shape)


def _first_of_tie(values: Tensor, places: Tensor) -> Tensor:
    """For sorted values (N, P), the place at which each one's run of equal values begins."""
    begins = torch.ones_like(values, dtype=torch.bool)
    begins[:, 1:] = values[:, 1:] != values[:, :-1]
    return torch.where(begins, places, 0).cummax(1).values
