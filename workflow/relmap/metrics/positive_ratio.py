"""The share of a picture that a map calls positive (AE, Section 5.3.1): how much room its evidence takes.

It describes a map and does not judge it: a map without a positive pixel has 0, one that is positive everywhere, which
the paper's table prints as "-", has 1. It needs no answer, so that every pair has a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from relmap.metrics.checks import as_relevance

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``positive_ratio``, without levels."""
    return case.tidy(method, "positive_ratio", positive_ratio(case.of(maps).to(case.device)))


def positive_ratio(maps: Tensor) -> Tensor:
    """Share of pixels above 0 of maps (N, H, W) at the input's resolution: (N,) float64.

    Raises:
        InputError: a map is not finite.
    """
    return (as_relevance(maps) > 0).flatten(1).double().mean(1)
