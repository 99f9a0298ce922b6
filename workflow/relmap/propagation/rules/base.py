"""What a rule is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.graph import Graph, Operation


@dataclass(frozen=True)
class Record:
    """What the forward pass kept of one operation.

    ``inputs`` and ``output`` are (N, ...) tensors, or None where the operation's rule does not declare that it needs
    them; ``shapes`` are the shapes of the inputs, always there. ``context`` is what the caller of ``propagate`` passes,
    ``image_shape`` the shape of the model's input.
    """

    operation: Operation
    inputs: tuple[Tensor | None, ...]
    output: Tensor | None
    shapes: tuple[torch.Size, ...]
    context: Mapping[str, Any] = field(default_factory=dict)
    image_shape: torch.Size = field(default_factory=torch.Size)


class Rule(ABC):
    """(record, relevance (K, N, ...)) -> relevance of each input, each (K, N, ...).

    ``needs_inputs`` and ``needs_output`` say what the forward pass must keep. ``signed_shares``: whether contributions
    share with their signs, so that the relevance of an output which speaks for it has the output's sign.
    ``keeps_digits``: whether float64 relevance may come to it in a float32 network; others get the network's type.
    A rule may make them properties.
    """

    needs_inputs = False
    needs_output = False
    signed_shares = False
    keeps_digits = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def at(self, graph: Graph, operation: Operation) -> Rule:
        """This rule as it is for one operation of one model."""
        return self

    @abstractmethod
    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]: ...


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, 0 where the denominator is 0."""
    # Masks of booleans cost several times as much on a CPU.
    return quotient(numerator, F.threshold_(denominator.abs(), 0.0, torch.inf).copysign_(denominator))


def quotient(relevance: Tensor, z: Tensor) -> Tensor:
    """``relevance / z`` for relevance (K, N, ...) and z (N, ...), which is consumed: large new tensors are slow."""
    if relevance.shape == (1, *z.shape) and relevance.dtype == z.dtype:
        return torch.div(relevance[0], z, out=z)[None]
    return relevance / z


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """``z + epsilon sign(z)`` with sign(0) = 1, a new tensor."""
    return torch.full((), epsilon, dtype=z.dtype, device=z.device).copysign(z).add_(z)


def where_positive(relevance: Tensor, x: Tensor) -> Tensor:
    """Relevance (K, N, ...) where x (N, ...) is positive, 0 elsewhere."""
    return torch.ops.aten.threshold_backward(relevance, x.expand_as(relevance), 0)


def per_image_sum(x: Tensor) -> Tensor:
    """Sum over all but the first two dimensions, which stay as (K, N, 1, ...)."""
    return x.sum(dim=tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x


def total(x: Tensor) -> Tensor:
    """Sum over all but the first two dimensions, in float64: (K, N)."""
    return x.flatten(2).sum(2, dtype=torch.float64)


def with_total(relevance: Tensor, due: Tensor) -> Tensor:
    """Relevance (K, N, ...) in float64, brought to the totals ``due`` (K, N) in proportion to its absolute values.

    For rules whose equation promises the total and whose float32 arithmetic does not keep it: a change of the order of
    the rounding. A false total matters where the true one is 0 or small, as after a contrastive start: rules that
    mix with non-negative weights carry it whole to the input, while the mass round it cancels a thousandfold.
    """
    magnitude = relevance.abs()
    share = divide(total(relevance) - due, total(magnitude))
    return torch.sub(relevance.double(), magnitude * share.view(*share.shape, *[1] * (relevance.dim() - 2)))


def pull_back(run: Callable[..., Tensor], s: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
    """``J^T s`` of a linear operation that works on each image alone; ``s`` is (K, N, ...)."""
    if len(shapes) > 1:  # one of them may be the same for all images
        return jacobian_at(run, s, [s.new_zeros(shape) for shape in shapes])
    copies, count = s.shape[:2]
    alone = [len(shape) < s.dim() - 1 and len(shapes) > 1 for shape in shapes]
    with torch.enable_grad():
        dummies = [
            s.new_zeros(shape) if constant else s.new_zeros(copies * count, *shape[1:]).requires_grad_()
            for shape, constant in zip(shapes, alone, strict=True)
        ]
        wanted = [dummy for dummy in dummies if dummy.requires_grad]
        gradients = iter(torch.autograd.grad(run(*dummies), wanted, s.flatten(0, 1)))
    parts = (
        dummy.expand(copies, *dummy.shape) if constant else next(gradients).unflatten(0, (copies, count))
        for dummy, constant in zip(dummies, alone, strict=True)
    )
    # The gradient of a sum is a view of one number for many, which nobody could write to.
    return tuple(part.contiguous() if 0 in part.stride() else part for part in parts)


def jacobian_at(run: Callable[..., Tensor], s: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """``J^T s`` of any operation at ``inputs`` (N, ...); ``s`` is (K, N, ...), and so is each part of the result."""
    if len(s) == 0:  # autograd cannot batch no gradients
        return tuple(s.new_zeros(0, *x.shape) for x in inputs)
    with torch.enable_grad():
        # Batched gradients of some operations (group norm) cannot ask for a layout: here it is the plain one.
        leaves = [x.detach().contiguous().requires_grad_() for x in inputs]
        return torch.autograd.grad(run(*leaves), leaves, s.contiguous(), is_grads_batched=True)
