r"""Efficient model parameter randomisation (Hedström et al. 2024): does a map become more complex without learning?

.. math:: \mathrm{eMPRT} = \frac{\xi(\hat R) - \xi(R)}{\xi(R)}, \qquad \xi(R) = -\sum_b h_b \log h_b

with R the map of the trained network, :math:`\hat R` that of the network whose weights are all random, and h the shares
of a map's pixels in 100 equal bins between its least and its largest value: the entropy of its histogram. Higher is
better: what a trained network looks at is simpler than what a random one does. In place of the similarities of
:mod:`relmap.metrics.cascade`, which grow with noise in either map, it compares two numbers of one map each, and two
networks, so that no layer is randomised by itself. Weights are drawn as there, the second network explained in float64.
A map whose histogram has no entropy, such as a constant one, has 0.

Rows ``efficient_mprt``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.metrics.cascade import randomised_maps
from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import by_chunks

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

BINS = 100


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``efficient_mprt`` of the first images of the case.

    Raises:
        InputError: the case has no row of the method, which a map of another network needs.
    """
    if method not in case.methods:
        raise InputError(f"efficient_mprt: no row of method {method} is known to the case: none can explain anew")
    part = case.of_first_images(case.settings["efficient_mprt"]["images"])
    if part.pairs.empty:
        return part.tidy(method, "efficient_mprt", part.pairs["target"].to_numpy(float))
    before = histogram_entropy(as_relevance(part.of(maps)))
    row, given = case.methods[method], (part.images, part.targets)
    ((_, found),) = randomised_maps(case.model, row, *given, stages=1, seed=case.seed, batch_size=case.batch_size)
    return part.tidy(method, "efficient_mprt", relative_rise(before, histogram_entropy(found.cpu())))


def relative_rise(before: Tensor, after: Tensor) -> Tensor:
    """(after - before) / before, (N,); 0 where there was none."""
    return torch.where(before > 0, (after - before) / before.masked_fill(before == 0, 1), 0.0)


def histogram_entropy(maps: Tensor) -> Tensor:
    """Entropy of the histogram of each map (N, H, W), in nats, (N,) float64.

    Raises:
        InputError: a map is not finite.
    """

    def entropy(maps: Tensor) -> Tensor:
        values = maps.double().flatten(1)
        low, high = values.aminmax(dim=1, keepdim=True)
        span = (high - low).masked_fill(high == low, 1)
        bins = ((values - low) / span * BINS).long().clamp(max=BINS - 1)
        counts = torch.zeros(len(values), BINS, dtype=torch.float64, device=values.device)
        shares = counts.scatter_add_(1, bins, torch.ones_like(values)) / values.shape[1]
        return torch.special.entr(shares).sum(1)

    return by_chunks(entropy, as_relevance(maps))
