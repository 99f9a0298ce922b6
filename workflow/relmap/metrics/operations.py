r"""What a map costs: multiplications of the network's layers and live memory, counted, whatever the machine.

For the first image of each size that the network sees, its map is made once, so that what a method derives from the
weights is there, and once more, counted by :class:`relmap.inspection.cost.Meter`:

- ``map_operations``: multiply-accumulates of convolutions and matrix products, forwards and backwards, in 10^9;
- ``map_memory``: the most that lives at once beside the model and what was derived from it, in MiB.

Every pair of that size has the same number. Seconds are not among them: they belong to a machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from relmap.inspection.cost import Meter, explanation

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``map_operations`` and ``map_memory``."""
    operations, memory = cost_of_map(case, method)
    count = len(case.pairs)
    rows = [
        case.tidy(method, "map_operations", [operations / 2e9] * count),
        case.tidy(method, "map_memory", [memory / 2**20] * count),
    ]
    return pd.concat(rows, ignore_index=True)


def cost_of_map(case: Case, method: str) -> tuple[int, int]:
    """Floating-point operations and peak bytes of one map of the case's first image, for the first class."""
    with Meter() as meter:
        run = explanation(case.model, case.images[:1], case.methods[method])
        run(1)
        derived = meter.live
        meter.restart()
        run(1)
    return meter.operations, meter.peak - derived
