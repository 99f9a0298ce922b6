"""How much of maps' positive relevance lies in regions: lines of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
