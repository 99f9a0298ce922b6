r"""The extended pointing game of CLAM (Section 4.3.1, Appendix A.2).

For a map R with n positive pixels and an energy level E = e / levels, Eq. 6 of the paper,

.. math:: E = \#(R \ge \tau) / \#(R > 0),

is solved for the threshold: tau is the k-th largest positive value, k = max(1, round(E n)), halves rounded up. Every
pixel with R >= tau is kept, ties included. The accuracy at E is hits / (hits + misses): kept pixels inside the object's
region over all kept pixels. A map without a
positive pixel points nowhere: a miss, 0 at every energy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relmap.metrics.checks import as_mask, as_relevance

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

# Pixels sorted at once; bounds the memory (a sort needs about 16 bytes a pixel) whatever the number of images.
_PIXELS_PER_SORT = 1 << 24


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``pointing``; their level is the energy E."""
    energies = case.settings["energies"]
    accuracy = extended_pointing(case.of(maps), case.boxes, energies)
    return case.tidy(method, "pointing", accuracy, [level / energies for level in range(1, energies + 1)])


def extended_pointing(maps: Tensor, inside: Tensor, energies: int = 20) -> Tensor:
    """Pointing accuracy at each energy level.

    Args:
        maps: (N, H, W) relevance, signed; only positive values count.
        inside: (N, H, W) bool, or 0 and 1: the region that holds the object.
        energies: number L of levels; level e (1-based) is the energy e / L.

    Returns:
        (N, L) float64 on the device of ``maps``; 0 where a map has no positive pixel.

    Raises:
        ValueError: shapes differ.
        InputError: a map that is not finite, or a region with other values.
    """
    if maps.shape != inside.shape or maps.ndim != 3:
        raise ValueError(f"maps {tuple(maps.shape)} and inside {tuple(inside.shape)} must both be (N, H, W)")
    maps, inside = as_relevance(maps), as_mask(inside, "inside").to(maps.device)
    rows = max(1, _PIXELS_PER_SORT // max(1, maps[0].numel() if len(maps) else 1))
    parts = [
        _accuracies(some.flatten(1), region.flatten(1), energies)
        for some, region in zip(maps.split(rows), inside.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else maps.new_empty((0, energies), dtype=torch.float64)


def _accuracies(maps: Tensor, inside: Tensor, energies: int) -> Tensor:
    """``extended_pointing`` for flattened maps (N, P)."""
    values, order = maps.sort(dim=1, descending=True)
    hits_of_first = inside.gather(1, order).cumsum(1, dtype=torch.int32)
    positives = (maps > 0).sum(1, keepdim=True)
    levels = torch.arange(1, energies + 1, device=maps.device)
    # Half-up rounding of e n / L in integers: floating-point E n misses halves.
    wanted = ((2 * levels * positives + energies) // (2 * energies)).clamp(min=1)
    tau = values.gather(1, wanted - 1)
    kept = torch.searchsorted(-values, -tau, right=True)
    accuracy = hits_of_first.gather(1, kept - 1).double() / kept
    return accuracy.masked_fill(positives == 0, 0.0)
