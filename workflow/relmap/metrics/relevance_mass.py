"""Relevance mass accuracy and relevance rank accuracy (Arras et al. 2022).

Mass: the share of a map's positive relevance that lies in the region; 0 for a map without any. Rank: the share of the k
most relevant pixels that lie in the region, k its size; where a tie comes whole (see :mod:`relmap.metrics.ranking`)
there are more than k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from relmap.metrics.checks import as_mask, as_relevance
from relmap.metrics.ranking import entry_ranks

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score_boxes(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``relevance_mass`` and ``relevance_rank``, without levels; NaN where a class is absent."""
    part = case.where("present")
    values = _both(part.of(maps).to(case.device), part.boxes, case.settings["ties"])
    rows = [case.tidy(method, name, case.where_else_nan("present", value)) for name, value in values.items()]
    return pd.concat(rows, ignore_index=True)


def score_masks(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``relevance_mass_masks`` and ``relevance_rank_masks``, without levels."""
    values = _both(case.of(maps).to(case.device), case.masks, case.settings["ties"])
    rows = [case.tidy(method, f"{name}_masks", value) for name, value in values.items()]
    return pd.concat(rows, ignore_index=True)


def mass_accuracy(maps: Tensor, inside: Tensor) -> Tensor:
    """Positive relevance inside the region over all of it.

    Args:
        maps: (N, H, W) relevance, signed.
        inside: (N, H, W) bool, or 0 and 1: the region.

    Returns:
        (N,) float64; 0 where a map has no positive pixel, NaN where the region is empty.

    Raises:
        ValueError: shapes differ.
        InputError: a map that is not finite, or a region with other values.
    """
    maps, inside = _checked(maps, inside)
    positive = maps.double().clamp(min=0)
    total = positive.sum(1)
    share = (positive * inside).sum(1) / total.masked_fill(total == 0, 1)
    return share.masked_fill(~inside.any(1), torch.nan)


def rank_accuracy(maps: Tensor, inside: Tensor, ties: str = "strict") -> Tensor:
    """Share of the most relevant pixels, as many as the region has, that lie inside; else as ``mass_accuracy``."""
    maps, inside = _checked(maps, inside)
    chosen = entry_ranks(maps, ties) < inside.sum(1, keepdim=True)
    return (chosen & inside).sum(1).double() / chosen.sum(1)


def _both(maps: Tensor, inside: Tensor, ties: str) -> dict[str, Tensor]:
    return {"relevance_mass": mass_accuracy(maps, inside), "relevance_rank": rank_accuracy(maps, inside, ties)}


def _checked(maps: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and regions, (N, H W) each, on one device."""
    if maps.shape != inside.shape or maps.ndim != 3:
        raise ValueError(f"maps {tuple(maps.shape)} and inside {tuple(inside.shape)} must both be (N, H, W)")
    return as_relevance(maps).flatten(1), as_mask(inside, "inside").to(maps.device).flatten(1)
