r"""LRP-epsilon and LRP-0 (Bach et al. 2015).

.. math:: R_i = x_i \sum_j w_{ij} \frac{R_j}{z_j + \epsilon\,\mathrm{sign}(z_j)}, \quad z_j = \sum_i w_{ij} x_i + b_j

In vector-Jacobian form: ``x * W^T (R / st(z))``, where ``z`` is the layer's own output: one transposed convolution per
start beside the forward pass. The bias in the denominator absorbs its share of relevance.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from relmap.errors import InputError
from relmap.propagation.rules.base import Record, Rule, divide, quotient, stabilised


@dataclass(frozen=True)
class Epsilon(Rule):
    """epsilon = 0 is LRP-0 (relevance of outputs with z = 0 is dropped)."""

    epsilon: float = 1e-6
    bias: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise InputError(f"epsilon is {self.epsilon!r}; it must be a number that is not negative")

    needs_inputs = True
    signed_shares = True

    @property
    def needs_output(self) -> bool:
        return self.bias

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        weight = affine.weights("own")
        z = record.output if self.bias else affine.apply(x, weight)
        s = quotient(relevance, stabilised(z, self.epsilon)) if self.epsilon else divide(relevance, z)
        return (affine.transpose(s, weight, record.shapes[0]).mul_(x),)
