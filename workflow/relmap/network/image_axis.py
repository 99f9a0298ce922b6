"""Where the images of a batch lie in each output, and a graph in which they always come first.

Rules treat dimension 0 as the images: they sum over all others. Networks move it: to (T, N, C) for their tokens, into
(N * windows, T, C) for local attention. Most operations are seen to leave it alone (``keeps_images_first``). Where one
is not, the graph is run on three images, the second of which is not a number: that is where the second image lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Guard, Operation

Shapes = Mapping[str, torch.Size]
_COUNT = 3


@dataclass(frozen=True)
class Place:
    """Images lie along ``axis``, whose size is ``before * N * after``: ``Place()`` is the usual one."""

    axis: int = 0
    before: int = 1
    after: int = 1

    def first(self, x: Tensor) -> Tensor:
        """A tensor in the original layout with its images first; one that is the same for all keeps one."""
        size, axis = x.shape[self.axis], self.axis
        parts = (1, 1, 1) if size == 1 else (self.before, size // (self.before * self.after), self.after)
        x = x.unflatten(axis, parts).movedim(axis + 1, 0)
        x = x.squeeze(axis + 2) if self.after == 1 else x
        return x.squeeze(axis + 1) if self.before == 1 else x

    def original(self, x: Tensor) -> Tensor:
        """The inverse of ``first``."""
        axis = self.axis
        x = x.unsqueeze(axis + 1) if self.before == 1 else x
        x = x.unsqueeze(axis + 2) if self.after == 1 else x
        return x.movedim(0, axis + 1).flatten(axis, axis + 2)

    def shape(self, first: torch.Size) -> torch.Size:
        """The original shape of what has this one with its images first."""
        return self.original(torch.empty(first, device="meta")).shape

    def dimension(self, dim: int, rank: int) -> int:
        """Where a dimension of the original layout lies with the images first."""
        dim %= rank
        return dim + 1 if dim < self.axis else dim + (self.before > 1) + (self.after > 1)


FIRST = Place()

# Rearrangements that keep the order of values: dimension 0 holds the images after them if its size stays.
_IN_ORDER = frozenset({"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"})
_OF_SIZES = frozenset({"expand", "broadcast_to", "expand_as", "repeat", "tile"})
_OF_TWO = frozenset({"transpose", "swapaxes", "swapdims"})
_OF_DIMS = frozenset({"permute", "roll", "flip", "movedim", "moveaxis"})
_OF_ONE = {"select": 0, "narrow": 0, "repeat_interleave": 1, "chunk": 1, "split": 1, "tensor_split": 1, "unbind": 0}
_OF_ONE |= {"split_with_sizes": 1}
_ALONE = frozenset({"conv", "linear", "batch_norm", "relu", "gelu", "activation", "identity", "max_pool", "embedding"})


def keeps_images_first(operation: Operation, shapes: Shapes, carriers: frozenset[str], count: int) -> bool:
    """Whether an operation surely leaves the images of its inputs first; what is not known counts as no."""
    inputs = [shapes[name] for name in operation.inputs if name in carriers]
    shape, settings = shapes[operation.name], operation.settings
    rank = len(shape)
    if not shape or any(not each or each[0] != count for each in inputs) or shape[0] != count:
        return False
    match operation.kind:
        case kind if kind in _ALONE:
            return len(inputs[0]) >= 2
        case "scale" | "add" | "multiply":
            return all(len(each) == rank for each in inputs)
        case "concatenate" | "softmax" | "log_softmax":
            return settings.get("dim", -1) % rank != 0
        case "layer_norm":
            return len(settings.get("normalized_shape", ())) < rank and len(inputs[0]) == rank
        case "matmul":
            return "moves" not in settings and rank > 2 and all(len(each) == rank for each in inputs)
        case "average_pool":
            return "moves" not in settings and all(dim % len(inputs[0]) for dim in settings.get("dims", ()))
        case "reshape":
            return _rearranges_within(settings.get("moves"), inputs[0], shape)
    return False


def _rearranges_within(moves: tuple[str, tuple, dict] | None, before: torch.Size, after: torch.Size) -> bool:
    """Whether a rearrangement whose images stay in number moves none of them."""
    if moves is None:
        return False
    label, args, kwargs = moves
    rank = len(before)

    def away(*dims: Any) -> bool:
        return all(isinstance(dim, int) and dim % rank != 0 for dim in dims)

    match label:
        case "within" | "pixel_shuffle" | "pixel_unshuffle" | "channel_shuffle":
            return True
        case kind if kind in _IN_ORDER:
            return True
        case kind if kind in _OF_SIZES:
            return len(before) == len(after)
        case kind if kind in _OF_TWO:
            return away(*(args or kwargs.values()))
        case "permute":
            dims = _flat(args or kwargs.values())
            return bool(dims) and isinstance(dims[0], int) and dims[0] % rank == 0
        case kind if kind in _OF_DIMS:
            given = args[1:] if label == "roll" and "dims" not in kwargs else args
            dims = _flat([kwargs["dims"]] if "dims" in kwargs else given)
            return bool(dims) and away(*dims)
        case kind if kind in _OF_ONE:
            default = None if label == "repeat_interleave" else 0
            dim = kwargs.get("dim", args[_OF_ONE[label]] if len(args) > _OF_ONE[label] else default)
            return dim is not None and away(dim)
        case "getitem":
            return _keeps_all(args[0], rank)
        case "pad":
            amounts = args[0] if args else kwargs["pad"]
            return isinstance(amounts, list | tuple) and len(amounts) < 2 * rank
    return False


def _flat(values: Any) -> list[Any]:
    return [part for value in values for part in (value if isinstance(value, list | tuple) else [value])]


def _keeps_all(index: Any, rank: int) -> bool:
    """Whether an index leaves dimension 0 alone."""
    index = index if isinstance(index, tuple) else (index,)
    if index and isinstance(index[0], slice):
        return index[0] == slice(None)
    return bool(index) and index[0] is Ellipsis and len([part for part in index if part is not None]) <= rank


def images_stay_first(graph: Graph, shapes: Shapes) -> bool:
    """Whether the images are surely first in every output that depends on them, of those that have a shape here."""
    carriers = graph.carriers()
    count = shapes[graph.operations[0].name][0]
    return all(
        keeps_images_first(operation, shapes, carriers, count)
        for operation in graph.operations[1:]
        if operation.name in carriers and operation.name in shapes
    )


def may_move_images(graph: Graph) -> bool:
    """Whether an operation names dimension 0 as one to move, join or sum over, whatever the shapes."""
    carriers = graph.carriers()
    return any(_names_the_first(operation) for operation in graph.operations[1:] if operation.name in carriers)


def _names_the_first(operation: Operation) -> bool:
    settings, any_shape = operation.settings, torch.Size([1] * 8)
    match operation.kind:
        case "reshape":
            return not _rearranges_within(settings.get("moves"), any_shape, any_shape)
        case "average_pool":
            return 0 in settings.get("dims", ())
        case "concatenate" | "softmax":
            return settings["dim"] == 0
    return False


def with_images_first(graph: Graph, image: Tensor | None = None) -> Graph:
    """A graph in which images come first, found with an image (1, ...), or with one of the sizes that it may take.

    Raises:
        InputError: they cannot be followed.
    """
    if image is not None:
        return images_first(graph, located(graph, image))
    weight = next(operation.affine.weight for operation in graph if operation.affine is not None)
    for size in graph.sizes:
        values = torch.linspace(0, 1, torch.Size(size).numel(), dtype=weight.dtype, device=weight.device)
        try:
            return images_first(graph, located(graph, values.view(1, *size)))
        except InputError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
    return graph


@dataclass(frozen=True)
class Located:
    """Where the images lie in an output of so many dimensions."""

    place: Place
    rank: int


@torch.no_grad()
def located(graph: Graph, image: Tensor) -> dict[str, Located]:
    """Where the images lie in each output that depends on them, for images like this one, (1, ...).

    Raises:
        InputError: an operation mixes images, or where they lie cannot be told.
    """
    carriers = graph.carriers()
    images = image.repeat(_COUNT, *[1] * (image.dim() - 1))
    found: dict[str, Located] = {}
    for operation, output in graph.outputs(images):
        if operation.kind in ("input", "embedding") and output.is_floating_point():
            output[1] = torch.nan
        if operation.name in carriers:
            place = _place(operation, output) if output.is_floating_point() else FIRST
            found[operation.name] = Located(place, output.dim())
    return found


def _place(operation: Operation, result: Tensor) -> Place:
    wrong = result.isnan()
    if not wrong.any() and len(result) == _COUNT:
        return FIRST  # made of constants alone: a class token that has met no image yet
    for axis, size in enumerate(result.shape):
        if size % _COUNT:
            continue
        along = wrong.any(tuple(i for i in range(result.dim()) if i != axis)) if result.dim() > 1 else wrong
        more = size // _COUNT
        index = torch.arange(size, device=result.device)
        for place in dict.fromkeys((Place(axis, 1, more), Place(axis, more, 1))):
            second = (index // place.after) % _COUNT == 1
            if along.any() and not (along & ~second).any():
                return place
    raise InputError(
        f"operation {operation.name!r} ({operation.kind}) gives {tuple(result.shape)} for three images, in which they "
        "cannot be told apart: it mixes the images of a batch; give a model whose images do not depend on each other"
    )


_AS_THEY_ARE = frozenset({"relu", "gelu", "activation", "identity", "linear", "layer_norm"})
_MOVABLE = _AS_THEY_ARE | {
    *("scale", "softmax", "add", "multiply", "matmul", "concatenate", "reshape", "average_pool", "embedding"),
}


def images_first(graph: Graph, found: Mapping[str, Located]) -> Graph:
    """The same graph, in every output of which images come first.

    Raises:
        InputError: an operation whose images lie elsewhere can only be run as it is.
    """
    elsewhere = {name: each.place for name, each in found.items() if each.place != FIRST}
    operations: list[Operation] = []
    for operation in graph:
        if operation.name not in found:
            operations.append(_of_originals(operation, elsewhere))
        elif elsewhere.keys() & {operation.name, *operation.inputs}:
            operations.extend(_moved(operation, found, elsewhere))
        else:
            operations.append(_of_originals(operation, elsewhere))
    guards = tuple(
        Guard(guard.names, _with_original_shapes(guard.evaluate, elsewhere), guard.value, guard.place)
        for guard in graph.guards
    )
    return Graph(tuple(operations), guards, graph.sizes, graph.feature_map)


def _with_original_shapes(evaluate: Callable[[Shapes], Any], elsewhere: Mapping[str, Place]) -> Callable[[Shapes], Any]:
    return lambda shapes: evaluate({n: elsewhere[n].shape(s) if n in elsewhere else s for n, s in shapes.items()})


def _of_originals(operation: Operation, elsewhere: Mapping[str, Place]) -> Operation:
    """An operation whose own output stays, given inputs and shapes with their images first."""
    names = (*operation.inputs, *operation.constants, *operation.sizes)
    if not elsewhere.keys() & set(names):
        return operation
    return replace(operation, run=_restoring(operation, names, elsewhere))


def _restoring(operation: Operation, names: Sequence[str], elsewhere: Mapping[str, Place]) -> Callable[..., Tensor]:
    """An operation's function of tensors and shapes with their images first."""

    def run(*values: Any) -> Tensor:
        return operation.run(
            *(_restored(value, elsewhere.get(name)) for value, name in zip(values, names, strict=True))
        )

    return run


def _restored(value: Any, place: Place | None) -> Any:
    if place is None:
        return value
    return place.shape(value) if isinstance(value, torch.Size) else place.original(value)


def _moved(operation: Operation, found: Mapping[str, Located], elsewhere: Mapping[str, Place]) -> list[Operation]:
    """The operation for inputs and outputs with their images first, and what it needs of constants before it."""
    name, place, rank = operation.name, found[operation.name].place, found[operation.name].rank
    settings = dict(operation.settings)
    mixes = operation.kind == "linear" and place.axis == rank - 1
    if operation.kind == "batch_norm" and found[operation.inputs[0]].place == place and place.axis == 0:
        return _norm_of_rows(operation, place.dimension(1, rank))
    trailing = "normalized_shape" in settings or settings.get("dim") == -1
    of_channels = operation.kind == "layer_norm" and not trailing
    if operation.kind not in _MOVABLE or mixes or of_channels:
        raise InputError(
            f"operation {name!r} ({operation.kind}) runs on images that do not come first, in dimension {place.axis}; "
            "they cannot be followed through it: give a model that keeps them in dimension 0 there"
        )
    if operation.kind in _AS_THEY_ARE and all(found[n].place == place for n in operation.inputs):
        return [operation]
    constants = {n: f"{name}.constant_{i}" for i, n in enumerate(operation.inputs) if n not in found}
    aligned = [Operation(new, "reshape", (old,), _aligned(place, rank)) for old, new in constants.items()]
    names = (*operation.inputs, *operation.constants, *operation.sizes)
    run = _restoring(operation, names, {**elsewhere, **dict.fromkeys(constants, place)})
    if "dim" in settings:
        settings["dim"] = place.dimension(settings["dim"], rank)
    inputs = tuple(constants.get(n, n) for n in operation.inputs)
    return [*aligned, replace(operation, inputs=inputs, run=lambda *x: place.first(run(*x)), settings=settings)]


def _norm_of_rows(operation: Operation, channels: int) -> list[Operation]:
    """A batch norm of (N * T, C) as one of (N, C, T), whose channels lie where its rules look for them."""
    name, within = operation.name, {"moves": ("within", (), {})}
    before, norm = f"{name}.channels_first", f"{name}.norm"
    return [
        Operation(before, "reshape", operation.inputs, lambda x: x.movedim(channels, 1), settings=within),
        replace(operation, name=norm, inputs=(before,)),
        Operation(name, "reshape", (norm,), lambda x: x.movedim(1, channels), settings=within),
    ]


def _aligned(place: Place, rank: int) -> Callable[[Tensor], Tensor]:
    """A constant with as many dimensions as the output, and its images, or one for all, first."""
    return lambda x: place.first(x.reshape(*[1] * (rank - x.dim()), *x.shape))
