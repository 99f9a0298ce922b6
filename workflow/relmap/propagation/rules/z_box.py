r"""The z^B rule for the first layer, whose input lies in a box (Montavon et al. 2017).

.. math::
    R_i = \sum_j \frac{x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-}{\sum_i (x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-)} R_j

``l`` and ``h`` are the lowest and highest values that the input can take, per channel. Zero padding pads them too. With
:math:`w = w^+ + w^-` the numerator is :math:`(x_i - l_i) w_{ij}^+ + (x_i - h_i) w_{ij}^-`, both terms of one sign: one
product of the inputs ``x - l`` and ``x - h`` beside each other with the weights ``W+`` and ``W-`` beside each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.affine import Affine
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, divide


@dataclass(frozen=True)
class ZBox(Rule):
    """``low`` and ``high`` hold one value per channel; None takes each image's own extremes over all channels."""

    low: tuple[float, ...] | None
    high: tuple[float, ...] | None

    needs_inputs = True

    def __post_init__(self) -> None:
        if self.low is None or self.high is None:
            return
        pairs = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not all(low < high for low, high in pairs):
            raise InputError(f"z-box: low {self.low} must be below high {self.high}, one number for each channel")

    def at(self, graph: Graph, operation: Operation) -> ZBox:
        """Bounds are those of the model's input: what it does to its input before this layer, it does to them."""
        before = graph.preprocessing()
        if self.low is None or self.high is None or operation.inputs[0] not in before:
            return self
        affine = operation.affine
        corners = torch.tensor([self.low, self.high], dtype=torch.float64, device=affine.weight.device)
        corners = corners.view(2, -1, *[1] * (-affine.channel_dim - 1))
        behind = graph.behind(operation.inputs[0])
        values, shapes = {graph.operations[0].name: corners}, {graph.operations[0].name: corners.shape}
        for other in graph:
            if other.name in behind and other.kind != "input":
                if not values.keys() >= set(other.constants):
                    raise InputError(
                        f"z-box: operation {other.name!r} scales the image by what depends on it; give first='same'"
                    )
                inputs = [values[name] for name in other.inputs]
                # A copy of border values lies where they lie, and one pixel has no border to copy.
                copies = other.settings.get("copies_border", False)
                values[other.name] = inputs[0] if copies else other.bound(values, shapes).run(*inputs)
                shapes[other.name] = values[other.name].shape
        seen = values[operation.inputs[0]]
        others = tuple(dim for dim in range(seen.dim()) if dim != seen.dim() + affine.channel_dim)
        low, high = seen.amin(others), seen.amax(others)
        return replace(self, low=tuple(low.tolist()), high=tuple(high.tolist()))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        low, high = self._bounds(affine, x)
        inputs, weight = _beside(affine, x - low, x - high), affine.halves()
        s = divide(relevance, affine.apply(inputs, weight))
        return (_summed(affine, affine.transpose(s, weight, inputs.shape).mul_(inputs)),)

    def _bounds(self, affine: Affine, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each broadcasts to ``x`` (N, C, ...)."""
        if self.low is None or self.high is None:
            dims = tuple(range(1, x.dim()))
            return x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
        dim = affine.channel_dim
        if len(self.low) != x.shape[dim]:
            raise InputError(f"z-box: bounds for {len(self.low)} channels were given, the input has {x.shape[dim]}")
        per_channel = (-1, *[1] * (-dim - 1))
        return x.new_tensor(self.low).view(per_channel), x.new_tensor(self.high).view(per_channel)


def _beside(affine: Affine, a: Tensor, b: Tensor) -> Tensor:
    """Inputs (N, C, ...) beside each other in each group: one input (N, 2 C, ...) of the weights' ``halves``."""
    groups, dim = affine.groups, affine.channel_dim
    return torch.stack([v.unflatten(dim, (groups, -1)) for v in (a, b)], dim - 1).flatten(dim - 2, dim)


def _summed(affine: Affine, pairs: Tensor) -> Tensor:
    """The sum (K, N, C, ...) of what lies beside each other in (K, N, 2 C, ...)."""
    groups, dim = affine.groups, affine.channel_dim
    return pairs.unflatten(dim, (groups, 2, -1)).sum(dim - 1).flatten(dim - 1, dim)
