r"""LRP-gamma (Montavon et al. 2019), in the form that also holds for signed inputs and negative outputs.

.. math::
    R_i = \sum_j \frac{x_i w_{ij} + \gamma\,(x_i w_{ij})^{s_j}}{z_j + \gamma z_j^{s_j}} R_j, \quad
    s_j = \mathrm{sign}(z_j), \quad z_j = \sum_i x_i w_{ij} + b_j

The part of the sign that the output has is favoured by gamma. Outputs that are exactly 0 pass nothing on. For inputs
that cannot be negative this is ``x * (W + gamma W+)^T s`` for positive outputs and ``x * (W + gamma W-)^T s`` for
negative ones. With the bias counted, ``z`` is the output, and ``z- = z - z+`` adds up numbers of one sign where it
counts. Without it ``z`` has another sign than the output here and there, so that both denominators are products with
the favouring weights: a difference with the bias taken off again would lose what cancels.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    signed_shares = True

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
        lowering = [(part, OPPOSITE[name]) for part, name in raising]
        if affine.bias is None or self.bias:
            above = _summed(affine.apply(part, affine.weights(name)) for part, name in raising)
            if affine.bias is not None:
                above = affine.add_bias(above, affine.bias.clamp(min=0))
            sums = torch.add(h, above, alpha=self.gamma), torch.add(h, h - above, alpha=self.gamma)
        else:
            sums = tuple(
                _summed(affine.apply(part, affine.favouring(name, self.gamma)) for part, name in pairs)
                for pairs in (raising, lowering)
            )
        shares = (
            self._share(record, relevance, *each) for each in zip((raising, lowering), sums, (h, -h), strict=True)
        )
        return (_summed(shares),)

    def _share(self, record: Record, relevance: Tensor, pairs: Pairs, z: Tensor, h: Tensor) -> Tensor:
        """Of the outputs where ``h`` is positive, with the sum ``z`` and the weights that favour their part."""
        affine, shape = record.operation.affine, record.shapes[0]
        s = where_positive(quotient(relevance, stabilised(z, self.epsilon)), h)
        return _summed(affine.transpose(s, affine.favouring(name, self.gamma), shape).mul_(x) for x, name in pairs)


def _summed(terms: Iterable[Tensor]) -> Tensor:
    """The sum of new tensors, in the memory of the first."""
    first, *others = terms
    for other in others:
        first.add_(other)
    return first
