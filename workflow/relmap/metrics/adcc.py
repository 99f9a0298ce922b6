r"""ADCC (Poppi et al. 2021): average drop, coherency and complexity of a map in one number, their harmonic mean.

.. math::
    \mathrm{Coh} = \tfrac12 \big( 1 + \rho(M_t(x \circ M),\, M) \big), \qquad
    \mathrm{Com} = \frac{\lVert M \rVert_1}{HW}, \qquad
    \mathrm{ADCC} = 3 \Big( \frac{1}{\mathrm{Coh}} + \frac{1}{1 - \mathrm{Com}} + \frac{1}{1 - \mathrm{AD}} \Big)^{-1}

with M the map's positive part over its maximum, :math:`M_t(x \circ M)` the same of the picture that it masks, for the
same target, :math:`\rho` Pearson's correlation over the pixels, 0 where either map is constant, and AD the drop of
:mod:`relmap.metrics.average_drop`. Each pair has its own; where one of the three terms is 0, so is the mean.

Rows ``adcc``, ``adcc_coherency`` and ``adcc_complexity``.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from relmap.errors import InputError, RelevanceWarning
from relmap.explanation import as_propagator, explain
from relmap.metrics.average_drop import drops, masked_pictures
from relmap.metrics.local_lipschitz import attribution

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case
    from relmap.propagation import Propagator

NAMES = ("adcc", "adcc_coherency", "adcc_complexity")


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows of the first images of the case.

    Raises:
        InputError: the case has no row of the method, which the map of a masked picture needs.
    """
    if method not in case.methods:
        raise InputError(f"adcc: no row of method {method} is known to the case, so that none can explain anew")
    part = case.of_first_images(case.settings["adcc"]["images"])
    values = torch.empty(3, len(part.pairs), dtype=torch.float64)
    if not part.pairs.empty:
        masks = attribution(part.of(maps)).to(case.device)
        masked = masked_pictures(part.images, masks, torch.arange(len(masks), device=masks.device))
        with warnings.catch_warnings():
            # That the map of a masked picture is empty is what is measured.
            warnings.simplefilter("ignore", RelevanceWarning)
            row, size = case.methods[method], case.batch_size
            again = attribution(explain(part.once(_propagator), masked, part.targets, row, batch_size=size))
        drop, _ = drops(case.model, part.images, masks, part.targets, case.batch_size)
        values = torch.stack(adcc(masks, again.to(masks.device), drop))
    rows = [part.tidy(method, *each) for each in zip(NAMES, values, strict=True)]
    return pd.concat(rows, ignore_index=True)


def adcc(masks: Tensor, again: Tensor, drop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ADCC, coherency and complexity, each (N,) float64.

    Args:
        masks, again: maps (N, H, W) from 0 to 1, of pictures, and of the pictures that these mask.
        drop: (N,) from 0 to 1.
    """
    coherency = (1 + correlation(masks.flatten(1), again.flatten(1))) / 2
    complexity = masks.double().mean((1, 2))
    terms = torch.stack([coherency, 1 - complexity, 1 - drop])
    mean = 3 / terms.clamp(min=1e-300).reciprocal().sum(0)
    return torch.where((terms > 0).all(0), mean, 0.0), coherency, complexity


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's of rows (N, P), in float64; 0 where a row is constant."""
    first, second = (rows.double() - rows.double().mean(1, keepdim=True) for rows in (first, second))
    lengths = first.norm(dim=1) * second.norm(dim=1)
    constant = (first.amax(1) == first.amin(1)) | (second.amax(1) == second.amin(1)) | (lengths == 0)
    return torch.where(constant, 0.0, (first * second).sum(1) / lengths.masked_fill(constant, 1)).clamp(-1, 1)


def _propagator(case: Case) -> Propagator:
    """The network, traced once for all methods."""
    return as_propagator(case.model, case.images)
