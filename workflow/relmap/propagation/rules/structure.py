r"""Operations without weights of their own: ReLU, pooling, addition, concatenation, reshaping.

Maximum pooling sends relevance to the winner (its true backward). Average pooling and addition are linear with weights
that are not negative, so the only question is which part of the inputs counts:

.. math::
    R_i = c_i\,[J^T (R / J c)]_i, \quad c = x \;\text{(signed)},\; x^+ \;\text{(positive)},\; |x| \;\text{(absolute)}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, divide, jacobian_at, pull_back, quotient, stabilised


class Pass(Rule):
    """Relevance passes unchanged (ReLU, and batch norm where a method says so); what was broadcast takes the sum."""

    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        shape = record.shapes[0]
        return (relevance if relevance.shape[1:] == shape else relevance.sum_to_size(len(relevance), *shape),)


@dataclass(frozen=True)
class PassToCarriers(Rule):
    """Relevance passes to the inputs that depend on the model's input, in even parts; constants get 0.

    ``carriers`` says which inputs those are.
    """

    carriers: tuple[bool, ...] = ()

    def at(self, graph: Graph, operation: Operation) -> PassToCarriers:
        carriers = graph.carriers()
        return PassToCarriers(tuple(name in carriers for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        share = relevance / sum(self.carriers)
        return tuple(
            share.sum_to_size(len(share), *shape) if carries else share.new_zeros(len(share), *shape)
            for carries, shape in zip(self.carriers, record.shapes, strict=True)
        )


class Reshape(Rule):
    """A rearrangement: what each input entry was copied to, it takes back."""

    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        zeros = relevance.new_zeros(record.shapes[0])
        return jacobian_at(record.operation.run, relevance, [zeros])


class Embed(Rule):
    """A token takes the sum over its embedding."""

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return (relevance.sum(-1),)


class Split(Rule):
    """Concatenation: each input takes back its own slice."""

    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        dim = record.operation.settings["dim"]
        return relevance.split([shape[dim] for shape in record.shapes], dim + 1 if dim >= 0 else dim)


class Winner(Rule):
    """Maximum pooling, also overlapping or in ceil mode: all relevance to the first maximum of the window."""

    needs_inputs = True
    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,) = record.inputs
        window = record.operation.settings
        if "winners" in window:
            index = window["winners"](x).flatten(2).expand(*relevance.shape[:3], -1)
            result = relevance.new_zeros(*relevance.shape[:3], x[0, 0].numel())
            return (result.scatter_add_(3, index, relevance.flatten(3)).view(-1, *x.shape),)
        arguments = [window[key] for key in ("kernel", "stride", "padding", "dilation", "ceil_mode")]
        _, winners = F.max_pool2d(x, *arguments, return_indices=True)
        copies, count = relevance.shape[:2]
        result = torch.ops.aten.max_pool2d_with_indices_backward(
            relevance.flatten(0, 1),
            x.to(relevance.dtype).expand(copies, *x.shape).flatten(0, 1),
            *[[value, value] if isinstance(value, int) else list(value) for value in arguments[:4]],
            arguments[4],
            winners.expand(copies, *winners.shape).flatten(0, 1),
        )
        return (result.unflatten(0, (copies, count)),)


PARTS: dict[str, Callable[[Tensor], Tensor]] = {"signed": lambda x: x, "positive": torch.relu, "absolute": torch.abs}


@dataclass(frozen=True)
class Share(Rule):
    """Average pooling and addition: relevance in proportion to the ``part`` of the inputs."""

    part: Literal["signed", "positive", "absolute"] = "signed"
    epsilon: float = 0.0

    needs_inputs = True
    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        contributions = [PARTS[self.part](x.to(relevance.dtype)) for x in record.inputs]
        z = record.operation.run(*contributions)
        s = quotient(relevance, stabilised(z, self.epsilon)) if self.epsilon else divide(relevance, z)
        if record.operation.kind == "add" and all(shape == s.shape[1:] for shape in record.shapes):
            *others, last = contributions
            return (*[c * s for c in others], s.mul_(last))
        return tuple(
            c * back for c, back in zip(contributions, pull_back(record.operation.run, s, record.shapes), strict=True)
        )
