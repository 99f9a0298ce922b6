r"""LRP-gamma (Montavon et al. 2019), in the form that also holds for signed inputs and negative outputs.

.. math::
    R_i = \sum_j \frac{x_i w_{ij} + \gamma\,(x_i w_{ij})^{s_j}}{z_j + \gamma z_j^{s_j}} R_j, \quad
    s_j = \mathrm{sign}(z_j), \quad z_j = \sum_i x_i w_{ij} + b_j

The part of the sign that the output has is favoured by gamma. Outputs that are exactly 0 pass nothing on. For inputs
that cannot be negative this is ``x * (W + gamma W+)^T s`` for positive outputs and ``x * (W + gamma W-)^T s`` for
negative ones; with ``z`` given by the forward pass, ``z- = z - z+`` adds up numbers of one sign where it counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.alpha_beta import OPPOSITE, Pairs
from relmap.propagation.rules.base import Record, Rule, quotient, stabilised, where_positive


@dataclass(frozen=True)
class Gamma(Rule):
    """``signed_input`` states whether the layer's input may be negative."""

    gamma: float = 0.25
    epsilon: float = 1e-6
    bias: bool = True
    signed_input: bool = True

    needs_inputs = True
    needs_output = True

    def __post_init__(self) -> None:
        if not (self.gamma >= 0 and self.epsilon >= 0):
            raise InputError(f"gamma is {self.gamma!r}, epsilon {self.epsilon!r}; neither can be negative")

    def at(self, graph: Graph, operation: Operation) -> Gamma:
        non_negative = graph.non_negative()
        return replace(self, signed_input=not all(name in non_negative for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine, h = record.inputs, record.operation.affine, record.output
        raising = [(x, "positive")]
        if self.signed_input:
            raising = [(x.clamp(min=0), "positive"), (x.clamp(max=0), "negative")]
        z = h if self.bias or affine.bias is None else affine.add_bias(h, -affine.bias)
        favoured = None
        for part, name in raising:
            term = affine.apply(part, affine.weights(name))
            favoured = term if favoured is None else favoured.add_(term)
        if self.bias and affine.bias is not None:
            favoured = affine.add_bias(favoured, affine.bias.clamp(min=0))
        total = self._share(record, relevance, raising, z, favoured, h)
        favoured = torch.sub(z, favoured, out=favoured)
        lowering = [(part, OPPOSITE[name]) for part, name in raising]
        return (total.add_(self._share(record, relevance, lowering, z, favoured, -h)),)

    def _share(self, record: Record, relevance: Tensor, pairs: Pairs, z: Tensor, favoured: Tensor, h: Tensor) -> Tensor:
        """Of the outputs where ``h`` is positive, with the favoured part of the sum and its weights."""
        affine, total = record.operation.affine, None
        s = quotient(relevance, stabilised(torch.add(z, favoured, alpha=self.gamma), self.epsilon))
        s = where_positive(s, h)
        for part, name in pairs:
            share = affine.transpose(s, affine.favouring(name, self.gamma), record.shapes[0]).mul_(part)
            total = share if total is None else total.add_(share)
        return total
