"""Which module or function is which kind of operation.

``OPERATIONS`` is open: a model with a layer that relmap does not know needs one line, and no change here::

    from relmap.network.vocabulary import OPERATIONS, Primitive

    OPERATIONS[MySwish] = "activation"  # a module class; its own forward is run
    OPERATIONS[torch.special.erf] = "activation"  # a function, as the model calls it
    OPERATIONS[MyLinear] = lambda module: Primitive.of(Dense(module.weight.detach(), None), "linear")

A kind by name is a claim that is tried out when the operation first runs (``claims``). A kind that no method knows
needs a rule in the method's ``Composite`` besides. Kinds whose rules read weights, windows
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
from relmap.network.affine import Affine, Convolution, Dense, Diagonal, TransposedConvolution
from relmap.network.claims import checked


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
    if isinstance(entry, str):
        claimed = any(known in OPERATIONS for known in type(module).__mro__)
        return named(entry, module.forward, type(module).__name__) if claimed else Primitive(entry, module.forward)
    return entry and entry(module)


def named(kind: str, run: Callable[..., Tensor], what: str) -> Primitive:
    """An operation whose rules need no more than to run it; ``OPERATIONS`` says which kind ``what`` is.

    Its first run makes sure that it is.
    """
    if kind in MORE_THAN_A_NAME:
        raise InputError(
            f"rules for kind {kind!r} need more than its name: give OPERATIONS a module class, and for it a function "
            "of the module that returns a Primitive, such as vocabulary.maximum_pool or Primitive.of(affine, kind)"
        )
    return Primitive(kind, checked(kind, run, what))


def advice(key: str, weights: bool) -> str:
    """How to say what an unknown operation is; nothing that would be wrong for it."""
    table = f"relmap.network.vocabulary.OPERATIONS[{key}]"
    if weights:
        return (
            f"replace it, or say what it computes, {table} = a function of the module that returns its Primitive, "
            "such as Primitive.of(affine, 'linear') of a linear layer (it has weights, so a kind by name would not do)"
        )
    return (
        f"replace it, or say what it is, {table} = kind: 'activation' only if it acts on each value by itself, "
        "'reshape' only if it moves or copies values (both are made sure of when the model runs); for anything else a "
        "function of the module that returns its Primitive, and a rule where the kind is new"
    )


def is_known(module: nn.Module) -> bool:
    return _entry(module) is not None


def is_transparent(module: nn.Module) -> bool:
    """Whether this is a module of torch that is several operations: its functions are followed."""
    own = type(module).forward in (nn.GLU.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
    return own and not is_known(module)


def _pads_plainly(module: nn.Module) -> bool:
    """Whether a convolution pads with zeros, the same number before and after."""
    return getattr(module, "padding_mode", "zeros") == "zeros" and not isinstance(getattr(module, "padding", 0), str)


def _entry(module: nn.Module) -> str | Callable[[Any], Primitive] | None:
    for table in (OPERATIONS, _MODULES) if _pads_plainly(module) else (OPERATIONS,):
        for known in type(module).__mro__:
            # A subclass with a forward of its own does something else than the class that it comes from.
            if known in table and _same_forward(type(module), known):
                return table[known]
    return _BY_NAME.get(f"{type(module).__module__}.{type(module).__name__}")


def is_omitted(module: nn.Module) -> bool:
    return isinstance(module, OMITTED) or type(module).__name__ in OMITTED_BY_NAME


def _same_forward(subclass: type, known: type) -> bool:
    return all(
        getattr(subclass, name, None) is getattr(known, name, None)
        for name in ("forward", "_conv_forward", "_check_input_dim")
    )


def maximum_pool(kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) -> Primitive:
    """Of (N, C, H, W)."""
    if return_indices:
        raise InputError("a maximum pool that also returns its indices is not supported")
    stride = kernel_size if stride is None or stride == [] else stride
    window = {"kernel": kernel_size, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return Primitive(
        "max_pool", lambda x: F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode), settings=window
    )


def selecting(pool: Callable[..., Any]) -> Primitive:
    """A maximum pool of another form; ``pool(x, return_indices=True)`` also says which position each value is from."""
    settings = {"winners": lambda x: pool(x, return_indices=True)[1]}
    return Primitive("max_pool", lambda x: pool(x, return_indices=False), settings=settings)


def batch_norm(mean: Tensor | None, variance: Tensor | None, gain: Tensor | None, shift: Tensor | None, eps: float):
    if mean is None or variance is None:
        raise InputError("a batch norm without running statistics has no fixed function; train it with statistics")
    terms = {"mean": mean.clone(), "std": torch.sqrt(variance + eps), "gain": gain, "shift": shift}
    return Primitive.of(Diagonal.normalising(mean, variance, gain, shift, eps), "batch_norm", **terms)


Parts = tuple[Tensor, Tensor, Tensor | None]


def _norm(run: Callable[[Tensor], Tensor], parts: Callable[[Tensor], Parts], **settings: Any) -> Primitive:
    """A norm whose statistics are those of the image: ``gain * centred / std + bias``; ``parts`` gives the first three.

    Rules take mean and standard deviation as constants.
    """
    return Primitive("layer_norm", run, settings={"parts": parts, **settings})


def layer_norm(normalized_shape, weight: Tensor | None, bias: Tensor | None, eps: float) -> Primitive:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)

    def parts(x: Tensor) -> Parts:
        variance, mean = torch.var_mean(x, tuple(range(-len(shape), 0)), correction=0, keepdim=True)
        return x - mean, variance.add_(eps).sqrt_(), weight

    terms = {"normalized_shape": shape, "eps": eps, "weight": weight, "bias": bias}
    return _norm(lambda x: F.layer_norm(x, shape, weight, bias, eps), parts, **terms)


def rms_norm(normalized_shape, weight: Tensor | None, eps: float | None) -> Primitive:
    """Divides by the root of the mean square, without a mean taken off."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)

    def parts(x: Tensor) -> Parts:
        mean_square = x.square().mean(tuple(range(-len(shape), 0)), keepdim=True)
        return x, mean_square.add_(torch.finfo(x.dtype).eps if eps is None else eps).sqrt_(), weight

    return _norm(lambda x: F.rms_norm(x, shape, weight, eps), parts, normalized_shape=shape, eps=eps, weight=weight)


def unit_norm(p: float, dim: int, eps: float) -> Primitive:
    """``x`` over its p-norm along a dimension."""

    def parts(x: Tensor) -> Parts:
        return x, x.norm(p, dim, keepdim=True).clamp_min(eps), None

    return _norm(lambda x: F.normalize(x, p, dim, eps), parts, dim=dim, eps=eps, weight=None, bias=None)


def group_norm(groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Primitive:
    """Statistics over each group of channels (dimension 1) and all positions; weight and bias per channel."""

    def parts(x: Tensor) -> Parts:
        variance, mean = torch.var_mean(x.reshape(len(x), groups, -1), 2, correction=0)
        shape = (len(x), -1, *[1] * (x.dim() - 2))
        mean, std = (
            value.repeat_interleave(x.shape[1] // groups, 1).view(shape) for value in (mean, variance.add_(eps).sqrt_())
        )
        return x - mean, std, None if weight is None else weight.view(-1, *[1] * (x.dim() - 2))

    return _norm(
        lambda x: F.group_norm(x, groups, weight, bias, eps), parts, groups=groups, eps=eps, weight=weight, bias=bias
    )


def padding(ends: tuple[int, ...], mode: str = "constant", value: float = 0) -> Primitive:
    """Copies of the input's own values, or a constant, which takes no relevance: a rearrangement either way."""
    settings = {"keeps_sign": mode != "constant" or value >= 0}
    return Primitive("reshape", lambda x: F.pad(x, ends, mode, value), settings=settings | {"moves": _WITHIN})


def instance_norm(weight: Tensor | None, bias: Tensor | None, eps: float) -> Primitive:
    """A group norm of groups of one channel."""

    def of(x: Tensor) -> Primitive:
        return group_norm(x.shape[1], weight, bias, eps)

    return _norm(lambda x: of(x).run(x), lambda x: of(x).settings["parts"](x), eps=eps, weight=weight, bias=bias)


def response_norm(weight: Tensor, bias: Tensor, eps: float, positions: tuple[int, int], channels: int) -> Primitive:
    """ConvNeXt V2's global response norm ``x (1 + w n) + b``, n the norm of each channel over the mean of the norms."""

    def gain(x: Tensor) -> Tensor:
        size = x.norm(dim=positions, keepdim=True)
        shape = [1] * x.dim()
        shape[channels] = -1
        return 1 + weight.view(shape) * (size / (size.mean(channels, keepdim=True) + eps))

    def run(x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        shape[channels] = -1
        return x * gain(x) + bias.view(shape)

    return _norm(run, lambda x: (x, torch.ones_like(x), gain(x)), weight=weight, bias=bias, eps=eps)


def gelu(approximate: str = "none") -> Primitive:
    return Primitive("gelu", lambda x: F.gelu(x, approximate=approximate), settings={"approximate": approximate})


def softmax(dim: int | None) -> Primitive:
    if dim is None:
        raise InputError("a softmax must name its dimension")
    return Primitive("softmax", lambda x: F.softmax(x, dim), settings={"dim": dim})


def log_softmax(dim: int | None) -> Primitive:
    """Log-probabilities, which are logits too: less a number of their image, which no softmax sees.

    So relevance passes unchanged, from where the model's output is to the layer before; gradients are exact.
    """
    if dim is None:
        raise InputError("a log-softmax must name its dimension")
    return Primitive("log_softmax", lambda x: F.log_softmax(x, dim), settings={"dim": dim})


def embedding(weight: Tensor, padding_idx: int | None = None) -> Primitive:
    return Primitive("embedding", lambda ids: F.embedding(ids, weight, padding_idx), settings={"weight": weight})


def activation(name: str, run: Callable[[Tensor], Tensor], non_negative: bool = False) -> Primitive:
    return Primitive("activation", run, settings={"function": name, "non_negative": non_negative})


def rearrangement(run: Callable[[Tensor], Tensor], label: str = "within", *args: Any) -> Primitive:
    """``label`` and ``args``: the function and its dimensions; ``within`` moves values within each image alone."""
    return Primitive("reshape", run, settings={"moves": (label, args, {})})


_WITHIN = ("within", (), {})


def _rearrangement(label: str) -> Callable[[nn.Module], Primitive]:
    return lambda module: rearrangement(module.forward, label)


def leaky_relu(slope: float) -> Primitive:
    return activation("leaky_relu", lambda x: F.leaky_relu(x, slope))


def prelu(weight: Tensor) -> Primitive:
    return activation("prelu", lambda x: F.prelu(x, weight))


def threshold(least: float, otherwise: float) -> Primitive:
    """``x`` where it is above ``least``, and a number elsewhere."""
    if least == otherwise == 0:
        return Primitive("relu", F.relu)
    return activation("threshold", lambda x: F.threshold(x, least, otherwise), least >= 0 and otherwise >= 0)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _batch_norm(module: nn.modules.batchnorm._BatchNorm) -> Primitive:
    return batch_norm(
        module.running_mean, module.running_var, _detached(module.weight), _detached(module.bias), module.eps
    )


def _instance_norm(module: nn.modules.instancenorm._InstanceNorm) -> Primitive:
    if module.running_mean is not None:
        return _batch_norm(module)
    return instance_norm(_detached(module.weight), _detached(module.bias), module.eps)


def layer_norm_of(module: nn.LayerNorm) -> Primitive:
    return layer_norm(module.normalized_shape, _detached(module.weight), _detached(module.bias), module.eps)


def _embedding(module: nn.Embedding) -> Primitive:
    if module.max_norm is not None:
        raise InputError("an embedding with max_norm changes its own weights when it runs; it is not supported")
    return embedding(module.weight.detach(), module.padding_idx)


def _window(module: nn.Module) -> tuple[Any, ...]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return tuple(getattr(module, name) for name in names)


def selecting_window(pool: Callable[..., Any], *window: Any, **more: Any) -> Primitive:
    """``max_pool1d`` or ``max_pool3d`` of a window given as torch's function takes it."""
    if more.pop("return_indices", len(window) > 5 and window[5]):
        raise InputError("a maximum pool that also returns its indices is not supported")
    return selecting(lambda x, return_indices: pool(x, *window[:5], **more, return_indices=return_indices))


def _adaptive_maximum(pool: Callable[..., Any]) -> Callable[[nn.Module], Primitive]:
    def of(module: nn.Module) -> Primitive:
        if module.return_indices:
            raise InputError("a maximum pool that also returns its indices is not supported")
        return selecting(lambda x, return_indices: pool(x, module.output_size, return_indices))

    return of


def _pointwise(function: Callable, *names: str, non_negative: bool = False) -> Callable[[nn.Module], Primitive]:
    """An activation whose parameters are these attributes of its module; it runs out of place."""

    def of(module: nn.Module) -> Primitive:
        settings = [getattr(module, name) for name in names]
        return activation(function.__name__, lambda x: function(x, *settings), non_negative)

    return of


def _response_norm(module: nn.Module) -> Primitive:
    """timm's ``GlobalResponseNorm``."""
    weight, bias = module.weight.detach(), module.bias.detach()
    return response_norm(weight, bias, module.eps, tuple(module.spatial_dim), module.channel_dim)


_BY_NAME: dict[str, Callable[[Any], Primitive]] = {"timm.layers.grn.GlobalResponseNorm": _response_norm}
"""Modules of libraries that need not be there, by the class's full name."""

_CONVOLUTION = {
    convolution: lambda module, kind=kind: Primitive.of(kind.of(module), "conv")
    for kind, convolutions in (
        (Convolution, (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
        (TransposedConvolution, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)),
    )
    for convolution in convolutions
}

_AVERAGING = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Fold, nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
)
_PADDING = {
    getattr(nn, f"{name}{n}d"): lambda module, mode=mode: padding(module.padding, mode, getattr(module, "value", 0))
    for n in (1, 2, 3)
    for name, mode in (
        ("ConstantPad", "constant"),
        ("ZeroPad", "constant"),
        ("ReflectionPad", "reflect"),
        ("ReplicationPad", "replicate"),
        ("CircularPad", "circular"),
    )
}
_MODULES: dict[type[nn.Module], str | Callable[[Any], Primitive]] = {
    **_CONVOLUTION,
    **_PADDING,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), _batch_norm),
    **dict.fromkeys(_AVERAGING, "average_pool"),
    **dict.fromkeys((nn.Unfold, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), _rearrangement("within")),
    nn.Flatten: _rearrangement("flatten"),
    nn.Unflatten: _rearrangement("unflatten"),
    nn.Linear: lambda module: Primitive.of(Dense.of(module), "linear"),
    nn.LayerNorm: layer_norm_of,
    nn.RMSNorm: lambda module: rms_norm(module.normalized_shape, _detached(module.weight), module.eps),
    nn.GroupNorm: lambda module: group_norm(
        module.num_groups, _detached(module.weight), _detached(module.bias), module.eps
    ),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _instance_norm),
    nn.Embedding: _embedding,
    nn.ReLU: lambda module: Primitive("relu", F.relu),
    nn.GELU: lambda module: gelu(module.approximate),
    nn.Softmax: lambda module: softmax(module.dim),
    nn.Softmax2d: lambda module: softmax(-3),
    nn.LogSoftmax: lambda module: log_softmax(module.dim),
    nn.MaxPool2d: lambda module: maximum_pool(*_window(module)),
    nn.MaxPool1d: lambda module: selecting_window(F.max_pool1d, *_window(module)),
    nn.MaxPool3d: lambda module: selecting_window(F.max_pool3d, *_window(module)),
    nn.AdaptiveMaxPool1d: _adaptive_maximum(F.adaptive_max_pool1d),
    nn.AdaptiveMaxPool2d: _adaptive_maximum(F.adaptive_max_pool2d),
    nn.AdaptiveMaxPool3d: _adaptive_maximum(F.adaptive_max_pool3d),
    nn.ReLU6: lambda module: activation("relu6", F.relu6, non_negative=True),
    nn.Hardtanh: lambda module: activation(
        "hardtanh", lambda x: F.hardtanh(x, module.min_val, module.max_val), module.min_val >= 0
    ),
    nn.Threshold: lambda module: threshold(module.threshold, module.value),
    nn.PReLU: lambda module: prelu(module.weight.detach()),
    nn.RReLU: lambda module: leaky_relu((module.lower + module.upper) / 2),
    nn.LeakyReLU: lambda module: leaky_relu(module.negative_slope),
    nn.ELU: _pointwise(F.elu, "alpha"),
    nn.CELU: _pointwise(F.celu, "alpha"),
    nn.SELU: _pointwise(F.selu),
    nn.SiLU: _pointwise(F.silu),
    nn.Mish: _pointwise(F.mish),
    nn.Tanh: _pointwise(torch.tanh),
    nn.Softsign: _pointwise(F.softsign),
    nn.LogSigmoid: _pointwise(F.logsigmoid),
    nn.Softshrink: _pointwise(F.softshrink, "lambd"),
    nn.Hardshrink: _pointwise(F.hardshrink, "lambd"),
    nn.Tanhshrink: _pointwise(F.tanhshrink),
    nn.Sigmoid: _pointwise(torch.sigmoid, non_negative=True),
    nn.Hardsigmoid: _pointwise(F.hardsigmoid, non_negative=True),
    nn.Hardswish: _pointwise(F.hardswish),
    nn.Softplus: _pointwise(F.softplus, "beta", "threshold", non_negative=True),
}
