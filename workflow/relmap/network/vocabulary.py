"""Which module or function is which kind of operation.

``OPERATIONS`` is open: a model with a layer that relmap does not know needs one line, and no change here::

    from relmap.network.vocabulary import OPERATIONS, Primitive

    OPERATIONS[MySwish] = "activation"  # a module class; its own forward is run
    OPERATIONS[torch.special.erf] = "activation"  # a function, as the model calls it
    OPERATIONS[MyLinear] = lambda module: Primitive.of(Dense(module.weight.detach(), None), "linear")

A kind that no method knows needs a rule in the method's ``Composite`` besides. Kinds whose rules read weights, windows
or dimensions (``MORE_THAN_A_NAME``) need the function of the module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.network.affine import Affine, Convolution, Dense, Diagonal


@dataclass(frozen=True)
class Primitive:
    """What an operation is, apart from its place in a graph."""

    kind: str
    run: Callable[..., Tensor]
    affine: Affine | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, affine: Affine, kind: str, **settings: Any) -> Primitive:
        return cls(kind, affine.forward, affine, settings)


OPERATIONS: dict[Any, str | Callable[[Any], Primitive]] = {}
"""Module class -> kind, or function of the module that gives a ``Primitive``; function -> kind. Yours come first."""

MORE_THAN_A_NAME = frozenset(
    {"conv", "linear", "batch_norm", "layer_norm", "max_pool", "softmax", "concatenate", "embedding"}
)
"""Kinds whose rules read weights, windows or dimensions."""

OMITTED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Modules that do nothing when a model is evaluated."""

OMITTED_BY_NAME = frozenset({"DropPath", "StochasticDepth"})
"""Such modules of libraries that need not be there."""


def primitive_of(module: nn.Module) -> Primitive | None:
    """What a module is, or None where it is not one operation (or not one that is known)."""
    entry = _entry(module)
    return named(entry, module.forward) if isinstance(entry, str) else entry and entry(module)


def named(kind: str, run: Callable[..., Tensor]) -> Primitive:
    """An operation whose rules need no more than to run it."""
    if kind in MORE_THAN_A_NAME:
        raise InputError(
            f"rules for kind {kind!r} need more than its name: give OPERATIONS a module class, and for it a function "
            "of the module that returns a Primitive, such as vocabulary.maximum_pool or Primitive.of(affine, kind)"
        )
    return Primitive(kind, run)


def is_known(module: nn.Module) -> bool:
    return _entry(module) is not None


def _entry(module: nn.Module) -> str | Callable[[Any], Primitive] | None:
    for table in (OPERATIONS, _MODULES):
        for known in type(module).__mro__:
            # A subclass with a forward of its own does something else than the class that it comes from.
            if known in table and _same_forward(type(module), known):
                return table[known]
    return None


def is_omitted(module: nn.Module) -> bool:
    return isinstance(module, OMITTED) or type(module).__name__ in OMITTED_BY_NAME


def _same_forward(subclass: type, known: type) -> bool:
    return all(
        getattr(subclass, name, None) is getattr(known, name, None)
        for name in ("forward", "_conv_forward", "_check_input_dim")
    )


def maximum_pool(kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) -> Primitive:
    if return_indices:
        raise InputError("a maximum pool that also returns its indices is not supported")
    stride = kernel_size if stride is None or stride == [] else stride
    window = {"kernel": kernel_size, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return Primitive(
        "max_pool", lambda x: F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode), settings=window
    )


def batch_norm(mean: Tensor | None, variance: Tensor | None, gain: Tensor | None, shift: Tensor | None, eps: float):
    if mean is None or variance is None:
        raise InputError("a batch norm without running statistics has no fixed function; train it with statistics")
    terms = {"mean": mean.clone(), "std": torch.sqrt(variance + eps), "gain": gain, "shift": shift}
    return Primitive.of(Diagonal.normalising(mean, variance, gain, shift, eps), "batch_norm", **terms)


def layer_norm(normalized_shape, weight: Tensor | None, bias: Tensor | None, eps: float) -> Primitive:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    terms = {"normalized_shape": shape, "eps": eps, "weight": weight, "bias": bias}
    return Primitive("layer_norm", lambda x: F.layer_norm(x, shape, weight, bias, eps), settings=terms)


def gelu(approximate: str = "none") -> Primitive:
    return Primitive("gelu", lambda x: F.gelu(x, approximate=approximate), settings={"approximate": approximate})


def softmax(dim: int | None) -> Primitive:
    if dim is None:
        raise InputError("a softmax must name its dimension")
    return Primitive("softmax", lambda x: F.softmax(x, dim), settings={"dim": dim})


def embedding(weight: Tensor, padding_idx: int | None = None) -> Primitive:
    return Primitive("embedding", lambda ids: F.embedding(ids, weight, padding_idx), settings={"weight": weight})


def activation(name: str, run: Callable[[Tensor], Tensor], non_negative: bool = False) -> Primitive:
    return Primitive("activation", run, settings={"function": name, "non_negative": non_negative})


def rearrangement(run: Callable[[Tensor], Tensor], label: str = "within", *args: Any) -> Primitive:
    """``label`` and ``args``: the function and its dimensions; ``within`` moves values within each image alone."""
    return Primitive("reshape", run, settings={"moves": (label, args, {})})


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _convolution(module: nn.Conv2d) -> Primitive:
    if module.padding_mode != "zeros":
        raise InputError(f"only numeric zero padding is supported, not {module.padding_mode!r}")
    if isinstance(module.padding, str):
        raise InputError(
            f"only numeric zero padding is supported, not {module.padding!r}; that of 'valid' is 0, that of 'same' "
            "with an odd kernel dilation * (kernel_size - 1) // 2"
        )
    return Primitive.of(Convolution.of(module), "conv")


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> Primitive:
    return batch_norm(
        module.running_mean, module.running_var, _detached(module.weight), _detached(module.bias), module.eps
    )


def layer_norm_of(module: nn.LayerNorm) -> Primitive:
    return layer_norm(module.normalized_shape, _detached(module.weight), _detached(module.bias), module.eps)


def _embedding(module: nn.Embedding) -> Primitive:
    if module.max_norm is not None:
        raise InputError("an embedding with max_norm changes its own weights when it runs; it is not supported")
    return embedding(module.weight.detach(), module.padding_idx)


def _maximum_pool(module: nn.MaxPool2d) -> Primitive:
    return maximum_pool(
        module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode, module.return_indices
    )


def _pointwise(function: Callable, *names: str, non_negative: bool = False) -> Callable[[nn.Module], Primitive]:
    """An activation whose parameters are these attributes of its module; it runs out of place."""

    def of(module: nn.Module) -> Primitive:
        settings = [getattr(module, name) for name in names]
        return activation(function.__name__, lambda x: function(x, *settings), non_negative)

    return of


_MODULES: dict[type[nn.Module], str | Callable[[Any], Primitive]] = {
    nn.Conv2d: _convolution,
    nn.Linear: lambda module: Primitive.of(Dense.of(module), "linear"),
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.LayerNorm: layer_norm_of,
    nn.Embedding: _embedding,
    nn.ReLU: lambda module: Primitive("relu", F.relu),
    nn.GELU: lambda module: gelu(module.approximate),
    nn.Softmax: lambda module: softmax(module.dim),
    nn.MaxPool2d: _maximum_pool,
    nn.AvgPool2d: "average_pool",
    nn.AdaptiveAvgPool2d: "average_pool",
    nn.Upsample: "average_pool",
    nn.Flatten: lambda module: rearrangement(module.forward, "flatten"),
    nn.Unflatten: lambda module: rearrangement(module.forward, "unflatten"),
    nn.ZeroPad2d: lambda module: rearrangement(module.forward),
    nn.PixelShuffle: lambda module: rearrangement(module.forward),
    nn.PixelUnshuffle: lambda module: rearrangement(module.forward),
    nn.ReLU6: lambda module: activation("relu6", F.relu6, non_negative=True),
    nn.Hardtanh: lambda module: activation(
        "hardtanh", lambda x: F.hardtanh(x, module.min_val, module.max_val), module.min_val >= 0
    ),
    nn.LeakyReLU: _pointwise(F.leaky_relu, "negative_slope"),
    nn.ELU: _pointwise(F.elu, "alpha"),
    nn.SELU: _pointwise(F.selu),
    nn.SiLU: _pointwise(F.silu),
    nn.Mish: _pointwise(F.mish),
    nn.Tanh: _pointwise(torch.tanh),
    nn.Sigmoid: _pointwise(torch.sigmoid, non_negative=True),
    nn.Hardsigmoid: _pointwise(F.hardsigmoid, non_negative=True),
    nn.Hardswish: _pointwise(F.hardswish),
    nn.Softplus: _pointwise(F.softplus, "beta", "threshold", non_negative=True),
}
