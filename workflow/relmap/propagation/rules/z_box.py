r"""The z^B rule for the first layer, whose input lies in a box (Montavon et al. 2017).

.. math::
    R_i = \sum_j \frac{x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-}{\sum_i (x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-)} R_j

``l`` and ``h`` are the lowest and highest values that the input can take, per channel. Zero padding pads them too. With
:math:`w = w^+ + w^-` the numerator is :math:`(x_i - l_i) w_{ij}^+ + (x_i - h_i) w_{ij}^-`, both terms of one sign: one
product of the inputs ``x - l`` and ``x - h`` beside each other with the weights ``W+`` and ``W-`` beside each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.affine import Affine
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, divide

Bounds = float | Sequence[float] | Tensor | None
"""One number for all channels, one for each channel, or None: each image's own extreme over all channels."""

# Of the range: images that are normalised in another order of operations than the bounds differ by rounding.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class ZBox(Rule):
    """``low`` and ``high`` are ``Bounds``, both or neither; they are kept as a number or a tuple.

    Inputs beyond the bounds would get relevance of the other sign: they are refused, or only warned of (``beyond``).

    Raises:
        InputError: one bound without the other, what is no number, or a low that is not below its high; when called,
            bounds for another number of channels, or an input beyond them.
    """

    low: Bounds
    high: Bounds
    beyond: Literal["refuse", "warn"] = field(default="refuse", kw_only=True)
    # What the model does to its input before this layer, the input first: see ``at``.
    before: tuple[Operation, ...] = field(default=(), kw_only=True, repr=False, compare=False)

    needs_inputs = True

    def __post_init__(self) -> None:
        low, high = _numbers(self.low, "low"), _numbers(self.high, "high")
        if (low is None) != (high is None):
            given, absent = ("high", "low") if low is None else ("low", "high")
            raise InputError(f"bounds: {given} is given without {absent}; give both, or none for each image's extremes")
        if low is not None:
            low, high = _paired(low, high)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def at(self, graph: Graph, operation: Operation) -> ZBox:
        """Bounds are those of the model's input: what it does to its input before this layer, it does to them."""
        if self.low is None or operation.inputs[0] not in graph.preprocessing():
            return self
        needed = {operation.inputs[0]}
        for other in reversed(graph.operations):
            if other.name in needed:
                needed.update(other.inputs, other.constants, other.sizes)
                if other.kind == "mask" and other.inputs:
                    raise InputError(
                        f"z-box: operation {other.name!r} changes the image by what depends on it, so that bounds of "
                        "the image are none of the layer's; give none, or first='same'"
                    )
        return replace(self, before=tuple(other for other in graph if other.name in needed))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        low, high = self._bounds(record, x)
        inputs, weight = _beside(affine, x - low, x - high), affine.halves()
        s = divide(relevance, affine.apply(inputs, weight))
        return (_summed(affine, affine.transpose(s, weight, inputs.shape).mul_(inputs)),)

    def _bounds(self, record: Record, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each broadcasts to ``x`` (N, C, ...)."""
        if self.low is None:
            dims = tuple(range(1, x.dim()))
            return x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
        if self.before:
            low, high = self._preprocessed(record.image_shape, x)
        else:
            low, high = _per_channel(self.low, self.high, x, record.operation.affine.channel_dim)
        message = _beyond(low, high, x, record.operation)
        if message and self.beyond == "warn":
            warnings.warn(message, stacklevel=2)
        elif message:
            raise InputError(message)
        return low, high

    def _preprocessed(self, image_shape: torch.Size, x: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds of each element of this layer's input: those of an image all low, and of one all high."""
        shape = (1, *image_shape[1:])
        corners = x.new_zeros(shape, dtype=torch.float64)
        low, high = _per_channel(self.low, self.high, corners, 1)
        values = {self.before[0].name: torch.cat([low.expand(shape), high.expand(shape)])}
        shapes = {self.before[0].name: values[self.before[0].name].shape}
        for other in self.before[1:]:
            values[other.name] = other.bound(values, shapes).run(*[values[name] for name in other.inputs])
            shapes[other.name] = values[other.name].shape
        seen = values[self.before[-1].name].to(x.dtype)
        return seen.amin(0, keepdim=True), seen.amax(0, keepdim=True)


def _numbers(bound: Bounds, name: str) -> float | tuple[float, ...] | None:
    """A bound as one number, or as a tuple of one for each channel."""
    if bound is None:
        return None
    try:
        # As Python's numbers: in float32 a range of 0 to 0.1 would have another end.
        values = bound if isinstance(bound, Tensor) else torch.tensor(_plain(bound), dtype=torch.float64)
        values = values.detach().double().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"bounds: {name} is {bound!r}; give a number, or one for each channel") from error
    if values.dim() and max(values.shape) != values.numel():
        raise InputError(f"bounds: {name} has shape {tuple(values.shape)}; give a number, or one for each channel")
    if values.numel() == 0 or not values.isfinite().all():
        raise InputError(f"bounds: {name} is {bound!r}; give finite numbers, the range of the images as normalised")
    return tuple(values.flatten().tolist()) if values.dim() else values.item()


def _plain(bound: object) -> object:
    """Numbers and arrays of numpy, and sequences of tensors, as Python has them."""
    if isinstance(bound, str | bytes | bool):
        raise TypeError(bound)
    if isinstance(bound, list | tuple):
        return [_plain(value) for value in bound]
    return bound.tolist() if hasattr(bound, "tolist") else bound


def _paired(
    low: float | tuple[float, ...], high: float | tuple[float, ...]
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Both as numbers, or both for as many channels."""
    if isinstance(low, float) and isinstance(high, float):
        pairs = [(low, high)]
    else:
        low = (low,) * len(high) if isinstance(low, float) else low
        high = (high,) * len(low) if isinstance(high, float) else high
        if len(low) != len(high):
            raise InputError(f"bounds: low is for {len(low)} channels and high for {len(high)}; give as many of both")
        pairs = list(zip(low, high, strict=True))
    for channel, (below, above) in enumerate(pairs):
        if not below < above:
            where = f" of channel {channel}" if len(pairs) > 1 else ""
            raise InputError(f"bounds: low {below}{where} is not below high {above}; give the range of valid inputs")
    return low, high


def _per_channel(
    low: float | tuple[float, ...], high: float | tuple[float, ...], x: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    """Bounds that broadcast to ``x``, whose channels are its dimension ``dim``."""
    if not isinstance(low, float) and len(low) != x.shape[dim]:
        raise InputError(
            f"bounds: low and high are for {len(low)} channels, the images have {x.shape[dim]}; give a number each, or "
            f"{x.shape[dim]}"
        )
    places = (-1, *[1] * (x.dim() - 1 - dim % x.dim()))
    return x.new_tensor(low).view(places), x.new_tensor(high).view(places)


def _beyond(low: Tensor, high: Tensor, x: Tensor, operation: Operation) -> str:
    """What is wrong with inputs (N, ...) beyond their bounds; while a CUDA graph is recorded nothing can be read."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return ""
    room = _ROUNDING * (high - low)
    beyond = torch.maximum(low - room - x, x - high - room)
    if x.numel() == 0 or not bool((beyond > 0).any()):
        return ""
    dim = operation.affine.channel_dim
    at = torch.unravel_index(beyond.argmax(), x.shape)
    value, below, above = (v.expand_as(x)[at].item() for v in (x, low, high))
    return (
        f"bounds: the input of layer {operation.name!r} is {value:.6g} in channel {int(at[dim])}, outside low "
        f"{below:.6g} and high {above:.6g}; give the range of the images as normalised, or normalise the images"
    )


def _beside(affine: Affine, a: Tensor, b: Tensor) -> Tensor:
    """Inputs (N, C, ...) beside each other in each group: one input (N, 2 C, ...) of the weights' ``halves``."""
    groups, dim = affine.groups, affine.channel_dim
    return torch.stack([v.unflatten(dim, (groups, -1)) for v in (a, b)], dim - 1).flatten(dim - 2, dim)


def _summed(affine: Affine, pairs: Tensor) -> Tensor:
    """The sum (K, N, C, ...) of what lies beside each other in (K, N, 2 C, ...)."""
    groups, dim = affine.groups, affine.channel_dim
    return pairs.unflatten(dim, (groups, 2, -1)).sum(dim - 1).flatten(dim - 1, dim)
