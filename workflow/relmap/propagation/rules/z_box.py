r"""The z^B rule for the first layer, whose input lies in a box (Montavon et al. 2017).

.. math::
    R_i = \sum_j \frac{x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-}{\sum_i (x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-)} R_j

``l`` and ``h`` are the lowest and highest values that the input can take, per channel. Zero padding pads them too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relmap.propagation.rules.base import Record, Rule, divide


@dataclass(frozen=True)
class ZBox(Rule):
    """``low`` and ``high`` hold one value per channel; None takes each image's own extremes over all channels."""

    low: tuple[float, ...] | None
    high: tuple[float, ...] | None

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        if self.low is None or self.high is None:
            flat = x.flatten(1)
            shape = (-1, *[1] * (x.dim() - 1))
            low, high = flat.amin(1).view(shape).expand_as(x), flat.amax(1).view(shape).expand_as(x)
        else:
            per_channel = (-1, *[1] * (x.dim() - 2))
            low = x.new_tensor(self.low).view(per_channel).expand_as(x[:1])
            high = x.new_tensor(self.high).view(per_channel).expand_as(x[:1])
        terms = [(x, "own", 1), (low.contiguous(), "positive", -1), (high.contiguous(), "negative", -1)]
        z = sum(sign * affine.apply(value, affine.weights(name)) for value, name, sign in terms)
        s = divide(relevance, z)
        parts = [
            sign * value * affine.transpose(s, affine.weights(name), record.shapes[0]) for value, name, sign in terms
        ]
        return (torch.stack(parts).sum(0),)
