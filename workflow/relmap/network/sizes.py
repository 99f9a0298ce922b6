"""What a model computes from shapes and constants: never operations, but closures that are run when shapes are known.

``x.view(x.size(0), -1)`` traces to three steps, of which only the view is an operation. Its argument is an
``Expression`` of the shape of ``x``, evaluated anew in every forward pass, so that a graph serves any batch size and,
where the model allows it, any image size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class Output:
    """A tensor that an operation makes.

    ``carries`` tells whether relevance can travel through it to the input, ``zero`` whether it holds zeros alone.
    """

    name: str
    carries: bool
    zero: bool = False


@dataclass(frozen=True)
class Expression:
    """A value (number, tuple, tensor) that depends on shapes only, those of the operations' outputs in ``names``."""

    names: tuple[str, ...]
    evaluate: Callable[[Shapes], Any]


@dataclass(frozen=True)
class Attribute:
    """The device or dtype of an operation's output."""

    of: Output
    name: str


@dataclass(frozen=True)
class Pieces:
    """Several tensors from one call (``chunk``, attention with its weights); ``take`` makes the i-th an operation."""

    take: Callable[[int], Any]


def leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    map_aggregate(tree, found.append)
    return found


def expression(function: Callable, args: tuple, kwargs: dict) -> Any:
    """The call's value where it depends on no shape, else an ``Expression`` of the shapes that its arguments need."""
    names = _names(leaves((args, kwargs)))

    def evaluate(shapes: Shapes) -> Any:
        filled_args, filled_kwargs = _fill((args, kwargs), iter(()), shapes)
        return function(*filled_args, **filled_kwargs)

    return Expression(names, evaluate) if names else evaluate({})


def call(function: Callable, args: tuple, kwargs: dict) -> tuple[tuple[Output, ...], tuple[str, ...], Callable]:
    """A call with tensors, shapes and constants among its arguments as (inputs, sizes, run) of an operation.

    An input's own shape is taken from the tensor, so that ``run`` also works for more images than were given.
    """
    found = leaves((args, kwargs))
    inputs = tuple(
        leaf.of if isinstance(leaf, Attribute) else leaf for leaf in found if isinstance(leaf, Output | Attribute)
    )
    own = [source.name for source in inputs]
    sizes = tuple(name for name in _names(found) if name not in own)

    def run(*values: Any) -> Tensor:
        tensors = values[: len(own)]
        shapes = {name: tensor.shape for name, tensor in zip(own, tensors, strict=True)}
        shapes.update(zip(sizes, values[len(own) :], strict=True))
        filled_args, filled_kwargs = _fill((args, kwargs), iter(tensors), shapes)
        return function(*filled_args, **filled_kwargs)

    return inputs, sizes, run


def _names(found: list[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for leaf in found if isinstance(leaf, Expression) for name in leaf.names))


def _fill(tree: Any, tensors: Iterator[Tensor], shapes: Shapes) -> Any:
    def value(leaf: Any) -> Any:
        match leaf:
            case Output():
                return next(tensors)
            case Attribute():
                return getattr(next(tensors), leaf.name)
            case Expression():
                return leaf.evaluate(shapes)
        return leaf

    return map_aggregate(tree, value)
