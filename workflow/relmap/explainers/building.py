"""From a row of the catalogue to the explainer of one model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from relmap.catalogue.imported import imported
from relmap.catalogue.methods import BOUNDS, Method, find
from relmap.errors import InputError, suggestion
from relmap.explainers.base import Explainer
from relmap.propagation import Propagator


def build(model: nn.Module | Propagator, method: str | Method, **parameters: Any) -> Explainer:
    """The explainer of a method for one model; ``parameters`` beside those that the id fixes.

    Parameters that only a wrapped method takes are its own.

    A method that takes the range of valid inputs gets the model's own ``input_range`` (low, high) where it has one, as
    relmap's trained networks do, and none is given.

    Raises:
        InputError: an unknown method or parameter, one that the id fixes, or a model that the method cannot treat.
    """
    row = find(method)
    fixed = [name for name in parameters if name in row.parameters]
    if fixed:
        raise InputError(f"method {row.id!r} fixes {fixed[0]!r} to {row.parameters[fixed[0]]!r}; choose another method")
    maker = imported(row.maker, "relmap.explainers")
    signature = inspect.signature(maker)
    first, *names = signature.parameters
    given = {**row.parameters, **parameters}
    plain = _untraced(model)
    model = plain if first == "model" else as_propagator(model)
    if row.wraps is not None:
        within = [name for name in _names(row.wraps) if name not in names]
        handed = {name: given.pop(name) for name in within if name in given}
        given["inner"] = build(model, row.wraps, **handed)
        names = [*names, *within]
    given |= _bounds(plain, row, given)
    try:
        signature.bind(model, **given)
    except TypeError as error:
        free = _free(row, names)
        takes = f"takes {', '.join(free)}" if free else "takes none"
        wrong = next((name for name in parameters if name not in free), "")
        raise InputError(f"method {row.id!r}: {error}; it {takes}{suggestion(wrong, free)}") from error
    return maker(model, **given)


def _names(method: str | Method) -> list[str]:
    """The parameters that a method leaves free, and those of what it wraps."""
    row = find(method)
    _, *names = inspect.signature(imported(row.maker, "relmap.explainers")).parameters
    return [*_free(row, names), *(_names(row.wraps) if row.wraps is not None else ())]


def _bounds(model: nn.Module | None, row: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own range of valid inputs, for a method that takes it and is given none."""
    bounds = getattr(model, "input_range", None)
    takes = BOUNDS in row.needs and given.get("first", "z_box") == "z_box"
    if not takes or bounds is None or {"low", "high"} & given.keys():
        return {}
    return {"low": bounds[0], "high": bounds[1]}


def _free(row: Method, names: Iterable[str]) -> list[str]:
    """Which of its maker's parameters a method leaves free."""
    return [name for name in names if name not in row.parameters and name != "inner"]


def _untraced(model: nn.Module | Propagator) -> nn.Module | None:
    return model.model if isinstance(model, Propagator) else model


def as_propagator(model: nn.Module | Propagator, images: Any = None) -> Propagator:
    """The model, traced for the size of some images unless it is a propagator already, which is told the size."""
    size = tuple(images.shape[1:]) if isinstance(images, Tensor) and images.dim() > 2 else None
    if not isinstance(model, Propagator):
        return Propagator(model, size)
    if size is not None and size not in model.graph.sizes:
        model.graph.sizes.append(size)
    return model
