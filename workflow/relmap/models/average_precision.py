"""Average precision of scores, a class at a time: the area under the curve of precision over recall, by all points."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precisions(scores: Tensor, labels: Tensor) -> Tensor:
    r"""Average precision of each class, float64 (C,); NaN for a class without positives.

    .. math:: \mathrm{AP} = \sum_n (R_n - R_{n-1})\, P_n

    over the distinct scores as thresholds, highest first, so that examples of one score come together whatever their
    order (scikit-learn's definition).

    Args:
        scores: (N, C), the higher the surer.
        labels: (N, C), nonzero where the example is of the class.
    """
    ranked, order = scores.double().sort(dim=0, descending=True)
    positive = labels.to(scores.device).bool().gather(0, order).double()
    count, places = len(scores), torch.arange(len(scores), device=scores.device)[:, None]
    precision = positive.cumsum(0) / (places + 1)
    # The last place of each score's group.
    last = torch.ones_like(positive, dtype=torch.bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    ends = torch.where(last, places, count).flip(0).cummin(0).values.flip(0)
    return (positive * precision.gather(0, ends)).sum(0) / positive.sum(0)


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Mean of ``average_precisions`` over the classes that have positives."""
    return average_precisions(scores, labels).nanmean().item()
