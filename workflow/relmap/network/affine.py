"""Affine layers as linear maps that rules can use with other weights.

A rule of the LRP family needs ``z = V x`` and ``V^T s`` for weights ``V`` derived from a layer's own (``W+``, ``W-``,
``W + gamma W+``, ones). ``Affine`` gives both for convolutions of one, two or three dimensions, transposed ones, linear
layers and batch norms in evaluation mode, and keeps the derived weights that were used last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DERIVED: dict[str, Callable[[Tensor], Tensor]] = {
    "own": lambda w: w,
    "positive": lambda w: w.clamp(min=0),
    "negative": lambda w: w.clamp(max=0),
    "absolute": torch.abs,
    "ones": torch.ones_like,
    "square": torch.square,
}

# Derived weights of one layer that are kept: what the rules of all common families take together, and no more with
# every further value of a parameter.
KEPT = 6


@dataclass
class Affine(ABC):
    """``y = W x + b``. ``weight`` and ``bias`` are detached; ``bias`` may be None."""

    groups = 1
    """Inputs and outputs lie in so many groups, each connected within itself."""
    kernel: ClassVar[tuple[int, ...]] = ()
    """Size of the window over positions; empty where each position is by itself."""
    channel_dim = -1
    """Dimension of the input's and the output's channels, from the end."""

    weight: Tensor
    bias: Tensor | None
    _derived: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def weights(self, name: str) -> Tensor:
        """The derived weight called ``name`` in ``DERIVED``."""
        return self._kept(name, DERIVED[name])

    def favouring(self, name: str, gamma: float) -> Tensor:
        """``W + gamma V`` for the derived weight ``V`` called ``name``."""
        return self._kept(f"{name} {gamma!r}", lambda w: w + gamma * DERIVED[name](w))

    def _kept(self, key: str, derive: Callable[[Tensor], Tensor]) -> Tensor:
        """What was derived before, or is now; the one that was used longest ago goes.

        Each step on the dictionary is one that no other thread can interrupt: at worst, two threads derive the same.
        """
        derived = self._derived.pop(key, None)
        if derived is None:
            derived = self._layout(derive(self.weight))
        self._derived[key] = derived  # now the last
        for oldest in list(self._derived)[:-KEPT]:
            self._derived.pop(oldest, None)
        return derived

    def forward(self, x: Tensor) -> Tensor:
        return self.apply(x, self.weights("own"), self.bias)

    @property
    def channels(self) -> int:
        """How many outputs with a bias of their own."""
        return self.weight.shape[0]

    @property
    def dimensions(self) -> int:
        """How many dimensions of the output come after that of the channels."""
        return max(self.weight.dim() - 2, 0)

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``weight x + bias`` for ``x`` of shape (N, ...)."""

    @abstractmethod
    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """``weight^T s`` for ``s`` of shape (K, N, ...); gives (K, *shape) where ``shape`` is that of the input."""

    def add_bias(self, z: Tensor, bias: Tensor) -> Tensor:
        """``z`` (N, ...) plus one value of ``bias`` per output channel."""
        return z + bias.view(-1, *[1] * (z.dim() - 2))

    def scaled(self, after: Diagonal) -> Affine:
        """This layer followed by a batch norm, as one layer."""
        scale = after.weight
        bias = after.bias if self.bias is None else scale * self.bias + after.bias
        weight = self.weight * scale.view(-1, *[1] * (self.weight.dim() - 1))
        return replace(self, weight=weight, bias=bias, _derived={})

    def _layout(self, weight: Tensor) -> Tensor:
        return weight


class Mixing(Affine):
    """A layer whose outputs see several inputs each."""

    def halves(self) -> Tensor:
        """Weights ``W+`` and ``W-`` beside each other, of inputs twice as many."""
        return self._kept("halves", lambda w: self._beside(w.clamp(min=0), w.clamp(max=0)))

    def over_inputs(self, name: str) -> Tensor:
        """The derived weight summed over the inputs of a group: what it does to inputs that are the same in each."""
        return self.weights(name).sum(1, keepdim=True)

    def _beside(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b], 1)


Size = tuple[int, ...]
Window = int | Sequence[int]


@dataclass
class Convolution(Mixing):
    """Of (N, C, ...) with one, two or three dimensions of positions. Windows may be given as one number for all."""

    stride: Size = 1
    padding: Size = 0
    dilation: Size = 1
    groups: int = 1

    def __post_init__(self) -> None:
        for name in ("stride", "padding", "dilation"):
            setattr(self, name, self._size(getattr(self, name)))

    def _size(self, value: Window) -> Size:
        value = (value,) if isinstance(value, int) else tuple(value)
        return value * len(self.kernel) if len(value) == 1 else value

    @classmethod
    def of(cls, module: nn.modules.conv._ConvNd) -> Convolution:
        bias = None if module.bias is None else module.bias.detach()
        window = {each.name: getattr(module, each.name) for each in fields(cls) if hasattr(module, each.name)}
        return cls(**{**window, "weight": module.weight.detach(), "bias": bias})

    @property
    def kernel(self) -> Size:
        return tuple(self.weight.shape[2:])

    @property
    def channel_dim(self) -> int:
        return -1 - len(self.kernel)

    @property
    def inputs(self) -> int:
        """How many channels it takes."""
        return self.weight.shape[1] * self.groups

    @property
    def outputs(self) -> int:
        """How many channels it gives."""
        return self.weight.shape[0]

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _CONVOLVE[len(self.kernel)](x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        # Of an input, the last rows and columns that no window reaches.
        beyond = [
            size + 2 * padding - dilation * (kernel - 1) - 1 - stride * (outputs - 1)
            for size, padding, dilation, kernel, stride, outputs in zip(
                self._positions(shape),
                self.padding,
                self.dilation,
                self.kernel,
                self.stride,
                self._positions(s.shape),
                strict=True,
            )
        ]
        window = (self.stride, self.padding, beyond, self.groups, self.dilation)
        return _TRANSPOSE[len(self.kernel)](s.flatten(0, 1), weight, None, *window).unflatten(0, s.shape[:2])

    def _positions(self, shape: torch.Size) -> torch.Size:
        return shape[-len(self.kernel) :]

    def _layout(self, weight: Tensor) -> Tensor:
        # Channels-last convolutions are up to a third faster on CPUs, and never slower on GPUs.
        return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight


@dataclass
class TransposedConvolution(Convolution):
    """``conv_transpose``, whose weight has the inputs first: (inputs, outputs of a group, ...)."""

    output_padding: Size = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output_padding = self._size(self.output_padding)

    @property
    def inputs(self) -> int:
        return self.weight.shape[0]

    @property
    def outputs(self) -> int:
        return self.weight.shape[1] * self.groups

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        window = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return _TRANSPOSE[len(self.kernel)](x, weight, bias, *window)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        window = (self.stride, self.padding, self.dilation, self.groups)
        back = _CONVOLVE[len(self.kernel)](s.flatten(0, 1), weight, None, *window).unflatten(0, s.shape[:2])
        # With output padding there can be windows behind the last input.
        return back[(..., *(slice(size) for size in self._positions(shape)))].contiguous()

    def over_inputs(self, name: str) -> Tensor:
        return self.weights(name).unflatten(0, (self.groups, -1)).sum(1)

    def scaled(self, after: Diagonal) -> Affine:
        scale = after.weight.view(self.groups, 1, -1, *[1] * len(self.kernel))
        bias = after.bias if self.bias is None else after.weight * self.bias + after.bias
        weight = (self.weight.unflatten(0, (self.groups, -1)) * scale).flatten(0, 1)
        return replace(self, weight=weight, bias=bias, _derived={})

    def _beside(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([half.unflatten(0, (self.groups, -1)) for half in (a, b)], 1).flatten(0, 1)


_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass
class Dense(Mixing):
    """A linear layer on the last dimension: of (N, C), or of tokens (N, T, C)."""

    @classmethod
    def of(cls, module: nn.Linear) -> Dense:
        return cls(module.weight.detach(), None if module.bias is None else module.bias.detach())

    @property
    def inputs(self) -> int:
        return self.weight.shape[1]

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        return s @ weight

    def add_bias(self, z: Tensor, bias: Tensor) -> Tensor:
        return z + bias


@dataclass
class Diagonal(Affine):
    """A batch norm in evaluation mode: one weight and bias per channel (dimension 1 of the input)."""

    @classmethod
    def of(cls, module: nn.modules.batchnorm._BatchNorm) -> Diagonal:
        gain, shift = (None if value is None else value.detach() for value in (module.weight, module.bias))
        return cls.normalising(module.running_mean, module.running_var, gain, shift, module.eps)

    @classmethod
    def normalising(
        cls, mean: Tensor, variance: Tensor, gain: Tensor | None, shift: Tensor | None, eps: float
    ) -> Diagonal:
        """``gain (x - mean) / sqrt(variance + eps) + shift``."""
        scale = torch.rsqrt(variance + eps)
        if gain is not None:
            scale = scale * gain
        bias = -mean * scale
        return cls(scale, bias if shift is None else bias + shift)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        per_channel = (-1, *[1] * (x.dim() - 2))
        weight = weight.view(per_channel)
        return x * weight if bias is None else torch.addcmul(bias.view(per_channel), x, weight)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        return s * weight.view(-1, *[1] * (s.dim() - 3))
