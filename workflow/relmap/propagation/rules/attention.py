r"""AttnLRP's rules of attention (Achtibat et al. 2024): products share in halves, softmax by its Taylor expansion.

.. math::
    \text{product } o = \sum ab: \quad R_a = a \Big[\frac{\partial o}{\partial a}\Big]^T \frac{R}{2\,\mathrm{st}(o)},
    \qquad
    \text{softmax } s(x): \quad R_i = x_i \Big( R_i - s_i \sum_j R_j \Big)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from relmap.propagation.rules.base import Record, Rule, jacobian_at, stabilised


@dataclass(frozen=True)
class Halves(Rule):
    """A product of two tensors (matrix or elementwise): each takes half, in proportion to its contributions."""

    epsilon: float = 1e-6

    needs_inputs = True
    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        s = relevance / (2 * stabilised(record.output, self.epsilon))
        back = jacobian_at(record.operation.run, s, record.inputs)
        return tuple(x * g for x, g in zip(record.inputs, back, strict=True))


class SoftmaxTaylor(Rule):
    needs_inputs = True
    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), dim = record.inputs, record.operation.settings["dim"]
        dim = dim + 1 if dim >= 0 else dim  # relevance has one dimension more
        x = x.masked_fill(record.output == 0, 0)  # masked positions may be minus infinity
        return (x * (relevance - record.output * relevance.sum(dim, keepdim=True)),)
