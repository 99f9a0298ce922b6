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

    ``needs_inputs`` and ``needs_output`` say what the forward pass must keep; a rule may make them properties.
    """

    needs_inputs = False
    needs_output = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

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
    if relevance.shape == (1, *z.shape):
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


def pull_back(run: Callable[..., Tensor], s: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
    """``J^T s`` of a linear operation that works on each image alone; ``s`` is (K, N, ...)."""
    copies, count = s.shape[:2]
    with torch.enable_grad():
        dummies = [s.new_zeros(copies * count, *shape[1:]).requires_grad_() for shape in shapes]
        output = run(*dummies)
        gradients = torch.autograd.grad(output, dummies, s.flatten(0, 1))
    # The gradient of a sum is a view of one number for many, which nobody could write to.
    gradients = (gradient.contiguous() if 0 in gradient.stride() else gradient for gradient in gradients)
    return tuple(gradient.unflatten(0, (copies, count)) for gradient in gradients)


def jacobian_at(run: Callable[..., Tensor], s: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """``J^T s`` of any operation at ``inputs`` (N, ...); ``s`` is (K, N, ...), and so is each part of the result."""
    if len(s) == 0:  # autograd cannot batch no gradients
        return tuple(s.new_zeros(0, *x.shape) for x in inputs)
    with torch.enable_grad():
        # Batched gradients of some operations (group norm) cannot ask for a layout: here it is the plain one.
        leaves = [x.detach().contiguous().requires_grad_() for x in inputs]
        return torch.autograd.grad(run(*leaves), leaves, s.contiguous(), is_grads_batched=True)
