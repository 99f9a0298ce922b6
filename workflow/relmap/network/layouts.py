"""Where in an operation's output the channels and the positions of an image lie.

A network may keep its feature maps as (N, C, H, W), as (N, H, W, C), or as tokens (N, T, C) with a class token among
them. What a dimension means is followed from the convolutions on: every operation that only moves values is run on
tensors that hold the number of the channel, or of the position, at each place.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation

NOWHERE = -1
"""Number of a place that belongs to no position: a class token."""


@dataclass(frozen=True)
class Layout:
    """Of one image's output.

    Attributes:
        shape: of the output, (1, ...).
        channels: the dimension of the channels, counted from the end.
        positions: for each place along the other dimensions but the first, flattened, its position or ``NOWHERE``.
        grid: (height, width) of the positions.
    """

    shape: torch.Size
    channels: int
    positions: Tensor
    grid: tuple[int, int]

    @property
    def complete(self) -> bool:
        """Whether each of several positions of the grid has one place."""
        there, count = self.positions[self.positions != NOWHERE], self.grid[0] * self.grid[1]
        return count > 1 and len(there) == count and len(there.unique()) == count

    @property
    def plain(self) -> bool:
        """Whether this is (N, C, H, W) or (N, H, W, C), whatever the size."""
        return tuple(self._others()) == self.grid and torch.equal(self.positions, torch.arange(len(self.positions)))

    def resized(self, shape: torch.Size) -> Layout:
        """A plain layout for another size."""
        return _fresh(shape, self.channels)

    def to_map(self, values: Tensor) -> Tensor:
        """Values of (..., *shape[1:]) as (..., C, height, width); what belongs to no position is left out."""
        values = values.movedim(self.channels, 1 - len(self.shape))
        if self.plain:
            return values
        flat = values.flatten(2 - len(self.shape))
        return flat[..., self._order().to(values.device)].unflatten(-1, self.grid)

    def from_map(self, values: Tensor) -> Tensor:
        """Values of (..., C, height, width) in the output's own layout, 0 where it has no position."""
        if self.plain:
            return values.movedim(1 - len(self.shape), self.channels)
        flat = values.new_zeros(*values.shape[:-2], len(self.positions))
        flat[..., self._order().to(values.device)] = values.flatten(-2)
        return flat.unflatten(-1, self._others()).movedim(1 - len(self.shape), self.channels)

    def _order(self) -> Tensor:
        """Place of each position, in order."""
        order = self.positions.new_zeros(self.grid[0] * self.grid[1])
        there = (self.positions != NOWHERE).nonzero().flatten()
        order[self.positions[there]] = there
        return order

    def _others(self) -> list[int]:
        """Sizes of the dimensions but the first and that of the channels."""
        return [size for i, size in enumerate(self.shape[1:], 1) if i != self.channels + len(self.shape)]

    def marks(self) -> _Marks:
        numbers = torch.arange(self.shape[self.channels]).view(-1, *[1] * (-1 - self.channels))
        positions = self.positions.view(1, *self._others()).unsqueeze(self.channels)
        return _Marks(numbers.expand(self.shape), positions.expand(self.shape), self.grid)


@dataclass(frozen=True)
class _Marks:
    """Numbers of channels and of positions, each of the output's shape: of what may yet become a layout again."""

    channels: Tensor
    positions: Tensor
    grid: tuple[int, int]

    @property
    def shape(self) -> torch.Size:
        return self.channels.shape

    def marks(self) -> _Marks:
        return self

    def simplified(self) -> Layout | _Marks:
        """As a layout where one dimension holds the channels and they alone differ along it."""
        dims = [dim for dim in range(1 - len(self.shape), 0) if _changes(self.channels, dim)]
        if not dims and len(self.shape) in (3, 4) and not self.channels.any():
            dims = [-3 if len(self.shape) == 4 else -1]  # one channel alone
        if len(dims) != 1 or _changes(self.positions, dims[0]):
            return self
        positions = self.positions.select(dims[0], 0)[0].flatten()
        return Layout(self.shape, dims[0], positions, self.grid)


def _changes(numbers: Tensor, dim: int) -> bool:
    return numbers.shape[dim] > 1 and not torch.equal(numbers, numbers.narrow(dim, 0, 1).expand_as(numbers))


_POINTWISE = frozenset(
    {"batch_norm", "layer_norm", "relu", "gelu", "activation", "identity", "scale", "softmax", "add", "multiply"}
)


class FeatureMaps:
    """Shapes of all outputs for one image, and the layouts of those that are asked for."""

    def __init__(self, graph: Graph, shapes: Mapping[str, torch.Size]) -> None:
        self._graph, self.shapes = weakref.ref(graph), shapes  # the graph keeps this
        self._known: dict[str, Layout | _Marks | None] = {}

    @property
    def graph(self) -> Graph:
        return self._graph()

    def get(self, name: str) -> Layout | None:
        """The layout of an operation's output with several positions, where it is known."""
        found = self._found(name)
        return found if isinstance(found, Layout) and found.complete else None

    def _found(self, name: str) -> Layout | _Marks | None:
        if name not in self._known:
            carries = name in self.graph.carriers()
            self._known[name] = self._follow(self.graph[name]) if carries else None
        return self._known[name]

    def _follow(self, operation: Operation) -> Layout | _Marks | None:
        shape = self.shapes[operation.name]
        match operation.kind:
            case "conv" | "max_pool" | "input":
                return _fresh(shape, -3) if len(shape) == 4 else None
            case "concatenate":
                return self._joined(operation, shape)
            case kind if kind in _POINTWISE:
                return next(
                    (found for found in map(self._found, operation.inputs) if found and found.shape == shape), None
                )
        first = next((found for found in map(self._found, operation.inputs) if found), None)
        if first is None:
            return None
        match operation.kind:
            case "linear":
                return _of_linear(first, shape)
            case "average_pool":
                return _of_average(first, shape)
            case "reshape" if not operation.constants:
                # Zeros that padding adds must not pass for number 0.
                run, marks = operation.bound({}, self.shapes).run, first.marks()
                return _Marks(run(marks.channels + 1) - 1, run(marks.positions + 1) - 1, marks.grid).simplified()
        return None

    def _joined(self, operation: Operation, shape: torch.Size) -> Layout | _Marks | None:
        """Along channels their numbers go on; what is joined to positions and is no part of the image is nowhere."""
        dim, carriers = operation.settings["dim"], self.graph.carriers()
        dim = dim if dim < 0 else dim - len(shape)
        found = {name: self._found(name) for name in operation.inputs if name in carriers}
        if not all(isinstance(each, Layout) for each in found.values()):
            return None
        first = next((each for each in found.values() if (each.positions != NOWHERE).any()), None)
        if first is None or any(
            each.grid != first.grid and (each.positions != NOWHERE).any() for each in found.values()
        ):
            return None
        if first.channels == dim:
            return Layout(shape, dim, first.positions, first.grid)
        positions = []
        for name in operation.inputs:
            others = [size for i, size in enumerate(self.shapes[name]) if i not in (0, first.channels + len(shape))]
            of_part = found[name].positions if name in found else torch.full((torch.Size(others).numel(),), NOWHERE)
            positions.append(of_part.view(others))
        joined = dim if dim > first.channels else dim + 1  # the dimension, without that of the channels
        return Layout(shape, first.channels, torch.cat(positions, joined).flatten(), first.grid)


def _fresh(shape: torch.Size, channels: int) -> Layout:
    """A map whose channels lie in that dimension and whose positions are all the others but the first."""
    others = [size for i, size in enumerate(shape) if i not in (0, channels + len(shape))]
    count = torch.Size(others).numel()
    return Layout(shape, channels, torch.arange(count), tuple(others) if len(others) == 2 else (1, count))


def _of_linear(found: Layout | _Marks, shape: torch.Size) -> Layout | None:
    """A linear layer renews the channels if they lie last; along another dimension it mixes what that holds."""
    if isinstance(found, _Marks) and len(shape) == 4 and found.shape[:-1] == shape[:-1]:
        return _fresh(shape, -1) if _changes(found.channels, -1) else None  # positions were merged into the channels
    if not isinstance(found, Layout) or found.channels != -1 or found.shape[:-1] != shape[:-1]:
        return None
    if len(shape) == 4 and not found.complete:
        return _fresh(shape, -1)  # of a part of the positions: the merged patches of a hierarchical transformer
    return Layout(shape, -1, found.positions, found.grid)


def _of_average(found: Layout | _Marks, shape: torch.Size) -> Layout | None:
    """A window leaves a map of its own; the channels stay in their dimension."""
    if not isinstance(found, Layout) or len(shape) != 4 or len(found.shape) != 4:
        return None
    return _fresh(shape, found.channels) if shape[found.channels] == found.shape[found.channels] else None


@torch.no_grad()
def feature_maps(graph: Graph, size: tuple[int, ...] | None = None) -> FeatureMaps:
    """Of a graph of images of a size (C, H, W), by default of the likeliest that it takes; each is found once.

    Raises:
        InputError: it takes images of none of the sizes that it was traced with or that are usual.
    """
    known: dict[tuple[int, ...] | None, FeatureMaps] = graph.__dict__.setdefault("_feature_maps", {})
    if size not in known:
        weight = next(operation.affine.weight for operation in graph if operation.affine is not None)
        for shape in graph.sizes if size is None else (size,):
            try:
                image = torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)
                shapes = {operation.name: output.shape for operation, output in graph.outputs(image)}
            except (RuntimeError, ValueError, IndexError, TypeError):
                continue
            known[size] = FeatureMaps(graph, shapes)
            break
        else:
            raise InputError(
                "the model's feature maps are looked for with an image, and it takes none of the usual sizes: "
                "build Propagator(model, size=(C, H, W)), or name the layer"
            )
    return known[size]


def layout_of(graph: Graph, name: str, shapes: Mapping[str, torch.Size] | None = None) -> Layout:
    """The layout of one operation's output, for images that give these shapes, or of the likeliest size.

    Raises:
        InputError: it is not known.
    """
    own = None if shapes is None else torch.Size((1, *shapes[name][1:]))
    size = None if shapes is None else tuple(shapes[graph.operations[0].name][1:])
    found = _known(graph, name, None)
    if own is not None and (found is None or found.shape != own):
        found = found.resized(own) if found is not None and found.plain else _known(graph, name, size)
    if found is None:
        raise InputError(
            f"layer {name!r}: its output is no feature map whose channels and positions are known; name another layer"
        )
    return found


def _known(graph: Graph, name: str, size: tuple[int, ...] | None) -> Layout | None:
    try:
        return feature_maps(graph, size).get(name)
    except InputError:
        if size is None:  # the usual sizes need not be this model's
            return None
        raise
