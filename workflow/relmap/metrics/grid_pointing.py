"""The grid pointing game (Rao et al. 2022; AE, Figure 9): pictures of several classes side by side, one is asked for.

A map is brought to the grid's size where it is smaller, bilinearly, and negative values become 0 after that; the score
is what lies in the target's cell, over the total. A total of at most 1e-7 scores 0, as in the authors' code: such a map
points nowhere.

Maps of few positive pixels can score well by that alone. So that they meet on equal terms, AE keeps of every other
method's map its top pixels only, as many as its own has positive ones: :func:`thresholded`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.metrics.checks import as_mask, as_relevance
from relmap.metrics.chunks import by_chunks
from relmap.metrics.ranking import entry_ranks

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

BINS = (2, 5, 50, 95, 98, 100)
"""Upper ends, in percent of the ranks, of AggAtt's bins."""

_LEAST_TOTAL = 1e-7


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``grid_pointing``, without levels; the target's cell is its box. NaN where a grid has none of the target."""
    part = case.where("present")
    values = grid_pointing(part.of(maps).to(case.device), part.boxes)
    return case.tidy(method, "grid_pointing", case.where_else_nan("present", values))


def grid_pointing(maps: Tensor, cells: Tensor) -> Tensor:
    """The share of positive relevance that lies in the target's cell.

    Args:
        maps: (N, h, w) relevance, signed, of whole grids.
        cells: (N, H, W) bool, or 0 and 1: the target's cell, at the grid's size.

    Returns:
        (N,) float64 on the device of ``maps``; 0 where a map has no positive part to speak of.

    Raises:
        ValueError: there are not as many cells as maps.
        InputError: a map that is not finite, or a cell with other values.
    """
    if maps.ndim != 3 or cells.ndim != 3 or len(maps) != len(cells):
        raise ValueError(f"maps {tuple(maps.shape)} and cells {tuple(cells.shape)} must be (N, h, w) and (N, H, W)")
    maps, cells = as_relevance(maps), as_mask(cells, "cells").to(maps.device)
    return by_chunks(_inside, maps, cells)


def _inside(maps: Tensor, cells: Tensor) -> Tensor:
    if maps.shape != cells.shape:
        maps = F.interpolate(maps.unsqueeze(1), cells.shape[1:], mode="bilinear", align_corners=False).squeeze(1)
    positive = maps.clamp(min=0)
    total, inside = (part.sum((1, 2), dtype=torch.float64) for part in (positive, positive * cells))
    nowhere = total <= _LEAST_TOTAL
    return (inside / total.masked_fill(nowhere, 1)).masked_fill(nowhere, 0)


def thresholded(maps: Tensor, shares: Tensor, ties: str = "strict") -> Tensor:
    """Each map's top share of pixels, 0 elsewhere.

    Args:
        maps: (N, H, W) relevance.
        shares: (N,) from 0 to 1: of the pixels, rounded to whole ones, halves up.
        ties: see :mod:`relmap.metrics.ranking`.

    Returns:
        (N, H, W).

    Raises:
        ValueError: not as many shares as maps, or one outside [0, 1].
        InputError: a map is not finite.
    """
    shares = shares.to(maps.device).double()
    if shares.shape != maps.shape[:1] or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"shares must be ({len(maps)},) numbers from 0 to 1")
    wanted = (shares * maps[0].numel() + 0.5).floor() if len(maps) else shares
    return torch.where(entry_ranks(maps, ties) < wanted.view(-1, 1, 1), maps, 0)


def grid_pointing_at(maps: Tensor, shares: Tensor, cells: Tensor, ties: str = "strict") -> Tensor:
    """``grid_pointing`` of each map's top share of pixels, such as the positive ratio of another method's map."""
    return grid_pointing(thresholded(maps, shares, ties), cells)


def rank_bins(scores: Tensor, ends: Sequence[int] = BINS) -> Tensor:
    """The bin of AggAtt that each score (N,) falls into by its rank, best first: (N,) int64 from 0.

    Bin b holds ranks from floor(N ends[b - 1] / 100) up to floor(N ends[b] / 100); of equal scores the first ranks
    higher.

    Raises:
        InputError: a score is NaN, which has no rank.
    """
    if scores.isnan().any():
        raise InputError(f"scores: {int(scores.isnan().sum())} of {len(scores)} are NaN and have no rank; drop them")
    order = scores.argsort(descending=True, stable=True)
    edges = torch.tensor([len(scores) * end // 100 for end in ends], device=scores.device)
    ranks = torch.arange(len(scores), device=scores.device)
    bins = torch.empty_like(order)
    bins[order] = torch.searchsorted(edges, ranks, right=True)
    return bins
