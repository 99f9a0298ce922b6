r"""The flat rule: relevance spreads evenly over the receptive field, whatever the input and weights.

.. math:: R_i = \sum_j \frac{1}{\sum_{i'} 1} R_j \quad \text{(sums over the receptive field)}
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relmap.propagation.rules.base import Record, Rule


@dataclass(frozen=True)
class Flat(Rule):
    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        affine, shape = record.operation.affine, record.shapes[0]
        ones = affine.weights("ones")
        z = affine.apply(torch.ones(1, *shape[1:], dtype=relevance.dtype, device=relevance.device), ones)
        return (affine.transpose(relevance / z, ones, shape),)
