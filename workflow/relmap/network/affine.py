"""Affine layers as linear maps that rules can use with other weights.

A rule of the LRP family needs ``z = V x`` and ``V^T s`` for weights ``V`` derived from a layer's own (``W+``, ``W-``,
``W + gamma W+``, ones). ``Affine`` gives both for convolutions, linear layers and batch norms in evaluation mode, and
keeps the derived weights that were used last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DERIVED: dict[str, Callable[[Tensor], Tensor]] = {
    "own": lambda w: w,
    "positive": lambda w: w.clamp(min=0),
    "negative": lambda w: w.clamp(max=0),
    "halves": lambda w: torch.cat([w.clamp(min=0), w.clamp(max=0)], 1),  # of inputs twice as many
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


@dataclass
class Convolution(Affine):
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, module: nn.Conv2d) -> Convolution:
        bias = None if module.bias is None else module.bias.detach()
        return cls(
            module.weight.detach(),
            bias,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            groups=module.groups,
        )

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        # Of an input, the last rows and columns that no window reaches.
        beyond = [
            size + 2 * padding - dilation * (kernel - 1) - 1 - stride * (outputs - 1)
            for size, padding, dilation, kernel, stride, outputs in zip(
                shape[-2:], self.padding, self.dilation, weight.shape[2:], self.stride, s.shape[-2:], strict=True
            )
        ]
        window = (self.stride, self.padding, beyond, self.groups, self.dilation)
        return F.conv_transpose2d(s.flatten(0, 1), weight, None, *window).unflatten(0, s.shape[:2])

    def _layout(self, weight: Tensor) -> Tensor:
        # Channels-last convolutions are up to a third faster on CPUs, and never slower on GPUs.
        return weight.contiguous(memory_format=torch.channels_last)


@dataclass
class Dense(Affine):
    """A linear layer on the last dimension: of (N, C), or of tokens (N, T, C)."""

    @classmethod
    def of(cls, module: nn.Linear) -> Dense:
        return cls(module.weight.detach(), None if module.bias is None else module.bias.detach())

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
