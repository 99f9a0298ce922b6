r"""AttnLRP's rules of attention (Achtibat et al. 2024): products share in halves, softmax by its Taylor expansion.

.. math::
    \text{product } o = \sum ab: \quad R_a = a \Big[\frac{\partial o}{\partial a}\Big]^T \frac{R}{2\,\mathrm{st}(o)},
    \qquad
    \text{softmax } s(x): \quad R_i = x_i \Big( R_i - s_i \sum_j R_j \Big)

Residual additions :math:`o = \sum_k x_k` of TIBAV (Chefer et al. 2021, in their code): each addend's share
:math:`P_k = x_k R / o` is scaled, by image, so that the total of :math:`R` is shared by :math:`|\sum P_k|`:

.. math:: R_k = P_k \, \frac{1}{\sum P_k} \frac{|\sum P_k|}{\sum_m |\sum P_m|} \sum R
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, divide, jacobian_at, per_image_sum, pull_back, stabilised
from relmap.propagation.rules.rap import widened


@dataclass(frozen=True)
class Halves(Rule):
    """A product of two tensors (matrix or elementwise): each takes half, in proportion to its contributions.

    Where one alone depends on the image it takes all: the product is linear in it.
    """

    epsilon: float = 1e-6
    carriers: int = 2

    needs_inputs = True
    needs_output = True

    def at(self, graph: Graph, operation: Operation) -> Rule:
        if operation.kind == "multiply":
            return EvenHalves()
        carriers = graph.carriers()
        return replace(self, carriers=sum(name in carriers for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        if self.carriers == 1:
            s = divide(relevance, record.output)  # a linear operation, which needs no stabiliser of attention's
        else:
            s = relevance / (2 * stabilised(record.output, self.epsilon))
        back = jacobian_at(record.operation.run, s, record.inputs)
        return tuple(x * g for x, g in zip(record.inputs, back, strict=True))


class EvenHalves(Rule):
    """``Halves`` of an elementwise product, where what is divided by it cancels: no stabiliser, however small it is."""

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        half = relevance / 2
        return tuple(half.sum_to_size(len(half), *shape) for shape in record.shapes)


class SoftmaxTaylor(Rule):
    needs_inputs = True
    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), dim = record.inputs, record.operation.settings["dim"]
        dim = dim + 1 if dim >= 0 else dim  # relevance has one dimension more
        x = x.masked_fill(record.output == 0, 0)  # masked positions may be minus infinity
        return (x * (relevance - record.output * relevance.sum(dim, keepdim=True)),)


@dataclass(frozen=True)
class ShareBySums(Rule):
    """An addition, shared by the totals of what its addends contribute; ``epsilon`` widens the denominator."""

    epsilon: float = 0.0

    needs_inputs = True
    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        s = widened(relevance, record.output, self.epsilon)
        back = pull_back(record.operation.run, s, record.shapes)
        parts = [x * each for x, each in zip(record.inputs, back, strict=True)]
        sums = [per_image_sum(part) for part in parts]
        due = divide(per_image_sum(relevance), sum(each.abs() for each in sums))
        return tuple(part * each.sign() * due for part, each in zip(parts, sums, strict=True))
