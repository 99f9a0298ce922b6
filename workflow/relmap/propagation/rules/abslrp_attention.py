r"""absLRP in transformers: layer norm, activations, softmax and products of two tensors.

Statistics (mean and standard deviation of a layer norm, maximum and denominator of a softmax) are constants; then
Algorithm 1 is ``x * d(h_a + h)/dx [R / |h|]``, halved so that it is Eq. 12:

.. math::
    \text{layer norm } h = w h_1 + b,\; h_1 = \tfrac{x - \mu}{s}:& \quad
        R_i = \frac{x_i\,(|w_i|\,\mathrm{sign}\,h_{1,i} + w_i)}{2 s} \frac{R_i'}{|h_i|} \\
    \text{activation } h = f(x):& \quad R_i = x_i f'(x_i)\,\frac{1 + \mathrm{sign}\,h_i}{2} \frac{R_i'}{|h_i|} \\
    \text{softmax}:& \quad R_i = x_i R_i' \\
    \text{product } h = \sum_k a_k b_k:& \quad R_{a_k} = R_{b_k} = \sum (a_k b_k)^+ \frac{R'}{|h|}

The first three can turn the sign of relevance. Both factors of a product receive the same mass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.abslrp import AbsPointwise, AbsRule
from relmap.propagation.rules.base import Record, Rule, jacobian_at


class AbsActivation(AbsPointwise):
    """GELU and any other pointwise function."""

    def factor(self, record: Record) -> Tensor:
        (x,) = record.inputs
        return torch.where(record.output > 0, x * slope(record, x), 0)


class AbsLayerNorm(AbsPointwise):
    def factor(self, record: Record) -> Tensor:
        (x,) = record.inputs
        centred, std, gain = record.operation.settings["parts"](x)
        if gain is None:
            return torch.where(centred > 0, x / std, 0)
        return x * torch.where(centred > 0, gain.clamp(min=0), gain.clamp(max=0)) / std


class AbsSoftmax(AbsPointwise):
    def factor(self, record: Record) -> Tensor:
        (x,) = record.inputs
        return x.masked_fill(record.output == 0, 0) * record.output  # masked scores may be minus infinity


class AbsProduct(AbsRule):
    """Matrix product or elementwise product of two tensors; a factor from outside the image takes nothing."""

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        run, h = record.operation.run, record.output
        pairs = self._pairs(*record.inputs)

        def mass() -> Tensor:
            return sum(run(*pair) for pair in pairs).mul_(sum(self.carries))

        def spread(s: Tensor) -> tuple[Tensor, ...]:
            parts = [torch.zeros_like(x[None]) for x in record.inputs]
            for pair in pairs:
                for i, slope in enumerate(jacobian_at(run, s, pair)):
                    if self.carries[i]:
                        parts[i] = parts[i] + slope.mul_(pair[i])
            return tuple(parts)

        return self.law.distribute(relevance, self.law.denominator(h), mass, spread)

    def _pairs(self, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Parts of both factors whose products are not negative and add up to all of ``(a b)+``."""
        if all(self.signed):
            return [(a.clamp(min=0), b.clamp(min=0)), (a.clamp(max=0), b.clamp(max=0))]
        return [(a.clamp(min=0) if self.signed[0] else a, b.clamp(min=0) if self.signed[1] else b)]


@dataclass(frozen=True)
class OneBranch(AbsProduct):
    """The product of attention weights and values, of which one branch alone goes on (the paper's Table 10).

    Relevance is shared as always; what the other branch gets is dropped.
    """

    branch: Literal["values", "attention"]
    weights_first: bool = True

    def at(self, graph: Graph, operation: Operation) -> OneBranch:
        rule = super().at(graph, operation)
        return replace(rule, weights_first=from_softmax(graph, operation.inputs[0]))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        first, second = super().__call__(record, relevance)
        if (self.branch == "attention") == self.weights_first:
            return first, torch.zeros_like(second)
        return torch.zeros_like(first), second


@dataclass(frozen=True)
class Unmasked(Rule):
    """Attention scores plus their mask: relevance passes, the mask takes none."""

    carries: tuple[bool, ...] = ()

    def at(self, graph: Graph, operation: Operation) -> Unmasked:
        carriers = graph.carriers()
        return Unmasked(tuple(name in carriers for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple(relevance if carries else torch.zeros_like(relevance) for carries in self.carries)


def adds_mask(graph: Graph, operation: Operation) -> bool:
    """Whether this adds a mask, or what is made of masks alone."""
    return operation.kind == "add" and any(_is_mask(graph, name) for name in operation.inputs)


def _is_mask(graph: Graph, name: str) -> bool:
    operation = graph[name]
    if name in graph.carriers():
        return False
    return operation.kind == "mask" or any(_is_mask(graph, name) for name in operation.inputs)


def from_softmax(graph: Graph, name: str) -> bool:
    """Whether an operation's output is a softmax's, perhaps moved."""
    while graph[name].kind in ("reshape", "identity"):
        name = graph[name].inputs[0]
    return graph[name].kind == "softmax"


def mixes_values(graph: Graph, operation: Operation) -> bool:
    """Whether this is the product of attention weights and values."""
    return operation.kind == "matmul" and any(from_softmax(graph, name) for name in operation.inputs)


def require_attention(graph: Graph, method: str) -> None:
    """Raises InputError where a model has no self-attention."""
    if not any(mixes_values(graph, operation) for operation in graph):
        raise InputError(f"{method} is for models with self-attention; this one has none")


def slope(record: Record, x: Tensor) -> Tensor:
    """Derivative of a pointwise function at x."""
    return jacobian_at(record.operation.run, torch.ones_like(x)[None], (x,))[0][0]
