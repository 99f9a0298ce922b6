"""How much of maps' positive relevance lies in regions: lines of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from relmap.evidence.statistics import bootstrap_mean
from relmap.metrics.relevance_mass import mass_accuracy
from torch import Tensor


def share_row(what: Mapping[str, Any], maps: Tensor, regions: Tensor, seed: int) -> dict[str, Any]:
    """A line of a table: ``what`` it is of, the mean share, its 95 % interval over images, and the region's area.

    Images whose region is empty have no share and no area.
    """
    there = regions.flatten(1).any(1)
    interval = bootstrap_mean(mass_accuracy(maps[there], regions[there]).cpu().numpy(), seed=seed)
    return {
        **what,
        "share": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "area": regions[there].double().mean().item(),
        "n_images": interval.n,
    }


def spread_over_classes(targets: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most ``count`` rightly classified pairs, in turn of each class, drawn once for all: fewer begin the same."""
    right = targets[targets["present"] & targets["predicted"]]
    order = np.random.default_rng(seed).permutation(len(right))
    shuffled = right.iloc[order]
    rank = shuffled.groupby("target").cumcount()
    return shuffled.loc[rank.sort_values(kind="stable").index[:count]].reset_index(drop=True)
