r"""Sensitivity-n (Ancona et al. 2018): whether what n pixels are worth together is what removing them takes away.

.. math::
    \rho_n = \mathrm{corr}_S \Big( \sum_{i \in S} R_i, \; z_t(x) - z_t(x_{S \to 0}) \Big), \qquad |S| = n

Pearson's correlation over sets S of n pixels that are drawn evenly, with :math:`z_t` the target's logit; removed pixels
become 0 in normalised space, the mean colour, in all channels. R is the map as it is, with its signs. Where a map's
sums or the logits are the same for all sets there is no correlation, and the map has 0.

The sets are drawn for each image, those of a larger n around those of a smaller, and are the same for all methods. A
row's level is the share n / P of the picture's P pixels; n is that share rounded, at least 1.

Rows ``sensitivity_n``; the number is their mean over the shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relmap.job.seeds import generator
from relmap.metrics.adcc import correlation
from relmap.metrics.checks import as_relevance
from relmap.metrics.prediction import target_scores

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``sensitivity_n`` of ``images`` of the case."""
    settings = case.settings["sensitivity_n"]
    case = case.of_some_images(settings["images"])
    found = torch.empty(len(case.pairs), len(settings["shares"]), dtype=torch.float64)
    ids, relevance = case.pairs["image_id"].tolist(), as_relevance(case.of(maps)) if len(found) else None
    for place in range(len(ids)):
        chosen = subsets(case.seed, ids[place], settings["shares"], settings["subsets"], relevance.shape[1:])
        sums = torch.einsum("smhw,hw->sm", chosen.double(), relevance[place].double())
        one = case.images[place], case.targets[place]
        changes = logit_changes(case.model, *one, chosen.flatten(0, 1).to(case.device), case.batch_size)
        found[place] = correlation(sums, changes.cpu().view_as(sums))
    return case.tidy(method, "sensitivity_n", found, settings["shares"])


def subsets(seed: int, image_id: str, shares: Sequence[float], count: int, size: Sequence[int]) -> Tensor:
    """Sets of pixels of an image whatever the others, (shares, count, H, W) bool; each is within larger shares'."""
    pixels = size[0] * size[1]
    draws = torch.rand(count, pixels, generator=generator(seed, "sensitivity_n", image_id))
    order = draws.argsort(1).argsort(1)
    counts = torch.tensor([max(1, round(share * pixels)) for share in shares])
    return (order < counts[:, None, None]).unflatten(2, size)


def logit_changes(model: nn.Module, image: Tensor, target: Tensor, sets: Tensor, batch_size: int = 64) -> Tensor:
    """The target's logit less what it is without each set of pixels.

    Args:
        model: a classifier in evaluation mode.
        image: (C, H, W), normalised.
        target: () int64.
        sets: (m, H, W) bool.
        batch_size: pictures of one forward pass.

    Returns:
        (m,) float64.
    """
    kept = torch.cat([torch.ones_like(sets[:1]), ~sets])
    scores = target_scores(model, target.expand(len(kept)), lambda places: image * kept[places, None], batch_size)
    return scores[0] - scores[1:]
