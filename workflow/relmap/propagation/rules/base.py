"""What a rule is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relmap.propagation.graph import Operation


@dataclass(frozen=True)
class Record:
    """What the forward pass kept of one operation.

    ``inputs`` and ``output`` are (N, ...) tensors, or None where the operation's rule does not declare that it needs
    them; ``shapes`` are the shapes of the inputs, always there.
    """

    operation: Operation
    inputs: tuple[Tensor | None, ...]
    output: Tensor | None
    shapes: tuple[torch.Size, ...]


class Rule(ABC):
    """(record, relevance (K, N, ...)) -> relevance of each input, each (K, N, ...)."""

    needs_inputs: ClassVar[bool] = False
    needs_output: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]: ...


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, 0 where the denominator is 0."""
    return numerator / torch.where(denominator == 0, torch.inf, denominator)


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """``z + epsilon sign(z)`` with sign(0) = 1."""
    return torch.where(z < 0, z - epsilon, z + epsilon)


def pull_back(run: Callable[..., Tensor], s: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
    """``J^T s`` of a linear operation that works on each image alone; ``s`` is (K, N, ...)."""
    copies, count = s.shape[:2]
    with torch.enable_grad():
        dummies = [s.new_zeros(copies * count, *shape[1:]).requires_grad_() for shape in shapes]
        output = run(*dummies)
        gradients = torch.autograd.grad(output, dummies, s.flatten(0, 1))
    return tuple(gradient.unflatten(0, (copies, count)) for gradient in gradients)
