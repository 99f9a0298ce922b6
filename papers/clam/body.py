"""The share of a map's positive values on the object's segmentation: of attribute regions, how much lies on the bird.

The number is relevance mass accuracy (:mod:`relmap.metrics.relevance_mass`) under a name of its own: maps of regions
are no explanations, and stand in no ranking of methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relmap.metrics.relevance_mass import mass_accuracy

if TYPE_CHECKING:
    import pandas as pd
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``share_on_object``, without levels."""
    return case.tidy(method, "share_on_object", mass_accuracy(case.of(maps).to(case.device), case.masks))
