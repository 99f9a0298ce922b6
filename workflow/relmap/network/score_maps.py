r"""Score maps: the logits (N, C, h, w) of a fully convolutional network, and its score of each class, (N, C).

TorchRay reduces the map :math:`z_c(p)` of a class by a backward signal proportional to :math:`\exp z_c(p)`:

.. math:: w_c(p) = \frac{\exp z_c(p)}{\sum_q \exp z_c(q)}, \qquad s_c = \sum_p w_c(p)\, z_c(p)

The weights are the gradient of :math:`\log \sum_p \exp z_c(p)`. A map of one position is its score.
"""

from __future__ import annotations

import torch
from torch import Tensor


def position_weights(logits: Tensor) -> Tensor:
    """Weight of each position in its class's score, as ``logits`` (N, C, ...); those of a class sum to 1."""
    if logits.dim() == 2:
        return torch.ones_like(logits)
    return logits.flatten(2).softmax(2).view(logits.shape)


def pooled_scores(logits: Tensor) -> Tensor:
    """Scores (N, C) of logits (N, C, ...): the mean of each class's map by ``position_weights``."""
    if logits.dim() == 2:
        return logits
    return (position_weights(logits) * logits).flatten(2).sum(2)


def spread(amounts: Tensor, logits: Tensor) -> Tensor:
    """Amounts (N, C) of the classes over their positions, as ``logits`` (N, C, ...); a class's sum is its amount."""
    if logits.dim() == 2:
        return amounts
    return amounts.view(*amounts.shape, *[1] * (logits.dim() - 2)) * position_weights(logits).to(amounts.dtype)
