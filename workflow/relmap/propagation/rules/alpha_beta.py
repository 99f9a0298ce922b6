r"""LRP-alpha-beta (Bach et al. 2015), alpha - beta = 1.

.. math::
    R_i = \sum_j \left( \alpha \frac{(w_{ij} x_i)^+}{z_j^+} - \beta \frac{(w_{ij} x_i)^-}{z_j^-} \right) R_j, \quad
    z_j^\pm = \sum_i (w_{ij} x_i)^\pm \; (+\, b_j^\pm)

For inputs that cannot be negative the positive part is ``x * W+^T (R / W+ x)``: one convolution for the denominator
(shared by all starts) and one transposed convolution per start. Signed inputs need the pairs (x+, W+) and (x-, W-).
The papers' readings leave the bias out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.propagation.affine import Affine
from relmap.propagation.rules.base import Record, Rule


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """``signed_input`` states whether the layer's input may be negative; ``epsilon`` widens the denominators."""

    alpha: float = 1.0
    beta: float = 0.0
    bias: bool = False
    epsilon: float = 0.0
    signed_input: bool = True

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        total = None
        for factor, same, other in ((self.alpha, "positive", "negative"), (self.beta, "negative", "positive")):
            if factor == 0:
                continue
            pairs = [(x.clamp(min=0), same), (x.clamp(max=0), other)] if self.signed_input else [(x, same)]
            part = self._part(affine, pairs, same, relevance, record.shapes[0])
            part = part if factor == 1 else part.mul_(factor)
            total = part if total is None else total.add_(part)
        return (total,)

    def _part(
        self, affine: Affine, pairs: list[tuple[Tensor, str]], sign: str, relevance: Tensor, shape: torch.Size
    ) -> Tensor:
        """``sum_p x_p * V_p^T (R / |z|)``, ``z = sum_p V_p x_p`` of one sign: the negative part comes negated."""
        z = None
        for x, name in pairs:
            term = affine.apply(x, affine.weights(name))
            z = term if z is None else z.add_(term)
        if self.bias and affine.bias is not None:
            b = affine.bias.clamp(min=0) if sign == "positive" else affine.bias.clamp(max=0)
            z.add_(b.view(-1, *[1] * (z.dim() - 2)))
        if sign == "negative":
            z.neg_()
        # Relevance of outputs with z = 0 is dropped, in one pass over z. It must not meet a merely small z: convolution
        # algorithms that mix neighbours (Winograd) would carry the rounding of a huge quotient to inputs that count.
        z = F.threshold_(z.add_(self.epsilon) if self.epsilon else z, 1e-30, torch.inf)
        s = relevance / z
        parts = [affine.transpose(s, affine.weights(name), shape).mul_(x) for x, name in pairs]
        return parts[0] if len(parts) == 1 else parts[0].add_(parts[1])
