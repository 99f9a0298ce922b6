r"""LRP-alpha-beta (Bach et al. 2015), alpha - beta = 1.

.. math::
    R_i = \sum_j \left( \alpha \frac{(w_{ij} x_i)^+}{z_j^+} - \beta \frac{(w_{ij} x_i)^-}{z_j^-} \right) R_j, \quad
    z_j^\pm = \sum_i (w_{ij} x_i)^\pm \; (+\, b_j^\pm)

For inputs that cannot be negative the positive part is ``x * W+^T (R / W+ x)``: one convolution for the denominator
(shared by all starts) and one transposed convolution per start. Signed inputs need the pairs (x+, W+) and (x-, W-).
Where both parts count, the second denominator of a convolution comes from its output ``h`` for nothing,
``z+ = h + |z-|`` (with the bias in all three or in none): a sum of numbers that are not negative where a ReLU lets
relevance through. The papers' readings leave the bias out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.affine import Affine, Convolution
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, quotient, where_positive

Pairs = list[tuple[Tensor, str]]
OPPOSITE = {"positive": "negative", "negative": "positive"}


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """``signed_input`` states whether the layer's input may be negative; ``epsilon`` widens the denominators."""

    alpha: float = 1.0
    beta: float = 0.0
    bias: bool = False
    epsilon: float = 0.0
    signed_input: bool = True

    needs_inputs = True

    @property
    def needs_output(self) -> bool:
        return self.alpha != 0 and self.beta != 0

    def at(self, graph: Graph, operation: Operation) -> AlphaBeta:
        non_negative = graph.non_negative()
        return replace(self, signed_input=not all(name in non_negative for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine, shape = record.inputs, record.operation.affine, record.shapes[0]
        raising = [(x, "positive")]
        if self.signed_input:
            raising = [(x.clamp(min=0), "positive"), (x.clamp(max=0), "negative")]
        lowering = [(part, OPPOSITE[name]) for part, name in raising]
        if self.alpha == 0 or self.beta == 0:
            factor, pairs, sign = (self.alpha, raising, "positive") if self.alpha else (self.beta, lowering, "negative")
            return (self._share(factor, affine, pairs, self._sum(affine, pairs, sign), relevance, shape),)
        below = self._sum(affine, lowering, "negative")
        if isinstance(affine, Convolution):
            h = record.output if self.bias or affine.bias is None else affine.add_bias(record.output, -affine.bias)
            above = below + h
            # What is left by rounding is no positive part.
            above = where_positive(above, torch.sub(above, below, alpha=32 * torch.finfo(above.dtype).eps))
        else:
            above = self._sum(affine, raising, "positive")
        total = self._share(self.alpha, affine, raising, above, relevance, shape)
        return (total.add_(self._share(self.beta, affine, lowering, below, relevance, shape)),)

    def _sum(self, affine: Affine, pairs: Pairs, sign: str) -> Tensor:
        """``|sum_p V_p x_p|``, with the part of the bias that has this sign where the bias counts."""
        z = None
        for x, name in pairs:
            term = affine.apply(x, affine.weights(name))
            z = term if z is None else z.add_(term)
        if self.bias and affine.bias is not None:
            z = affine.add_bias(z, affine.bias.clamp(min=0) if sign == "positive" else affine.bias.clamp(max=0))
        return z if sign == "positive" else z.neg_()

    def _share(
        self, factor: float, affine: Affine, pairs: Pairs, z: Tensor, relevance: Tensor, shape: torch.Size
    ) -> Tensor:
        """``factor sum_p x_p * V_p^T (R / z)`` for ``z >= 0``: the negative part comes negated. ``z`` is consumed."""
        # Relevance of outputs with z = 0 is dropped, in one pass over z. It must not meet a merely small z: convolution
        # algorithms that mix neighbours (Winograd) would carry the rounding of a huge quotient to inputs that count.
        z = F.threshold_(z.add_(self.epsilon) if self.epsilon else z, 1e-30, torch.inf)
        s = quotient(relevance, z if factor == 1 else z.div_(factor))
        parts = [affine.transpose(s, affine.weights(name), shape).mul_(x) for x, name in pairs]
        return parts[0] if len(parts) == 1 else parts[0].add_(parts[1])
