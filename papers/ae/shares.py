"""How much of a map's positive relevance lies in a region, and the table of such shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from relmap.evidence.statistics import bootstrap_mean
from torch import Tensor


def positive_share(maps: Tensor, regions: Tensor) -> Tensor:
    """Share of each map's positive relevance in its region: (N, H, W) twice to (N,) float64.

    0 where nothing is positive: such a map shows no region.
    """
    positive = maps.double().clamp(min=0)
    total, inside = positive.sum((1, 2)), (positive * regions).sum((1, 2))
    return inside.where(total > 0, 0) / total.where(total > 0, 1)


def share_row(what: Mapping[str, Any], maps: Tensor, regions: Tensor, seed: int) -> dict[str, Any]:
    """A line of a table: ``what`` it is of, the mean share, its 95 % interval over images, and the region's area."""
    interval = bootstrap_mean(positive_share(maps, regions).cpu().numpy(), seed=seed)
    return {
        **what,
        "share": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "area": regions.double().mean().item(),
        "n_images": interval.n,
    }


def spread_over_classes(targets: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most ``count`` rightly classified pairs, in turn of each class, drawn once for all: fewer begin the same."""
    right = targets[targets["present"] & targets["predicted"]]
    order = np.random.default_rng(seed).permutation(len(right))
    shuffled = right.iloc[order]
    rank = shuffled.groupby("target").cumcount()
    return shuffled.loc[rank.sort_values(kind="stable").index[:count]].reset_index(drop=True)
