r"""LRP-gamma (Montavon et al. 2019), in the form that also holds for signed inputs and negative outputs.

.. math::
    R_i = \sum_j \frac{x_i w_{ij} + \gamma\,(x_i w_{ij})^{s_j}}{z_j + \gamma z_j^{s_j}} R_j, \quad
    s_j = \mathrm{sign}(z_j), \quad z_j = \sum_i x_i w_{ij} + b_j

The part of the sign that the output has is favoured by gamma. Outputs that are exactly 0 pass nothing on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relmap.propagation.rules.base import Record, Rule, stabilised


@dataclass(frozen=True)
class Gamma(Rule):
    gamma: float = 0.25
    epsilon: float = 1e-6
    bias: bool = True

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        own = affine.weights("own")
        z = affine.apply(x, own, affine.bias)
        base = z if self.bias else affine.apply(x, own)
        total = 0
        for sign, same, other in ((1, "positive", "negative"), (-1, "negative", "positive")):
            pairs = [(x.clamp(min=0), same), (x.clamp(max=0), other)]
            favoured = sum(affine.apply(part, affine.weights(name)) for part, name in pairs)
            if self.bias and affine.bias is not None:
                clamped = affine.bias.clamp(min=0) if sign > 0 else affine.bias.clamp(max=0)
                favoured = favoured + clamped.view(-1, *[1] * (z.dim() - 2))
            denominator = stabilised(base + self.gamma * favoured, self.epsilon)
            s = torch.where(z * sign > 0, relevance / denominator, 0)
            total = total + x * affine.transpose(s, own, record.shapes[0])
            for part, name in pairs:
                total = total + self.gamma * part * affine.transpose(s, affine.weights(name), record.shapes[0])
        return (total,)
