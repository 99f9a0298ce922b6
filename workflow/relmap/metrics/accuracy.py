"""The network's accuracy on the pictures that are explained: whether the class that it is surest of is a label.

It is the network's, the same for every method whose maps are of this network; tables print it beside what they are of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``accuracy``, 1 or 0, without levels."""
    return case.tidy(method, "accuracy", case.pairs["correct"].to_numpy(dtype=np.float64))
