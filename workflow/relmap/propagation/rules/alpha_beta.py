r"""LRP-alpha-beta (Bach et al. 2015), alpha - beta = 1.

.. math::
    R_i = \sum_j \left( \alpha \frac{(w_{ij} x_i)^+}{z_j^+} - \beta \frac{(w_{ij} x_i)^-}{z_j^-} \right) R_j, \quad
    z_j^\pm = \sum_i (w_{ij} x_i)^\pm \; (+\, b_j^\pm)

For inputs that cannot be negative the positive part is ``x * W+^T (R / W+ x)``: one convolution for the denominator
(shared by all starts) and one transposed convolution per start. Signed inputs need the pairs (x+, W+) and (x-, W-).
Both denominators are sums of numbers of one sign: ``z+ = h + |z-|`` would save one of them, and lose the digits that
cancel where no ReLU follows, as before a residual addition, or where the bias does not count. The papers' readings
leave the bias out.

Relevance that comes in float64 to a float32 layer has its total kept (``base.with_total``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.affine import Affine, Convolution
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, quotient, total, with_total

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
    def keeps_digits(self) -> bool:
        return not self.bias and not self.epsilon

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
        above, below = self._sum(affine, raising, "positive"), self._sum(affine, lowering, "negative")
        result = self._share(self.alpha, affine, raising, above, relevance, shape)
        return (result.add_(self._share(self.beta, affine, lowering, below, relevance, shape)),)

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
        due = None
        if relevance.dtype != z.dtype:
            # The pairs begin with the weights that raise or that lower positive inputs.
            sign = 1 if pairs[0][1] == "positive" else -1
            due = sign * factor * total(relevance.masked_fill(z.isinf(), 0))
        s = quotient(relevance, z if factor == 1 else z.div_(factor)).to(z.dtype)
        parts = [affine.transpose(s, affine.weights(name), shape).mul_(x) for x, name in pairs]
        result = parts[0] if len(parts) == 1 else parts[0].add_(parts[1])
        if due is None:
            return result
        result = with_total(result, due)
        # In the many values of a feature map rounding leaves no false total that would count, and float64 is slow.
        return result.to(z.dtype) if isinstance(affine, Convolution) else result
