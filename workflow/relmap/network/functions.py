"""Which function or tensor method is which kind of operation.

Each maker takes a ``Call``, with operations' outputs among its arguments, and adds what the call means to the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.network import vocabulary
from relmap.network.affine import Convolution, Dense, TransposedConvolution
from relmap.network.attention import attend
from relmap.network.sizes import Attribute, Expression, Output, Pieces, call, leaves
from relmap.network.vocabulary import Primitive


class Emitter(Protocol):
    """What adds operations to a graph."""

    def emit(
        self, name: str, primitive: Primitive, inputs: tuple[Output, ...], sizes: tuple[str, ...] = ()
    ) -> Output: ...

    def tensor(self, value: Any, name: str) -> Output: ...

    def scalar(self, value: float | Tensor, like: Output) -> Output: ...

    def aligned(self, value: Tensor, like: Output) -> Output: ...


@dataclass(frozen=True)
class Call:
    """A call of a function.

    Attributes:
        emitter: takes the operations.
        function: what is called; its label names the operation.
        args, kwargs: outputs of operations, expressions of shapes, and constants.
        prefix: the path of the module that calls, with a dot at its end.
        module: the name for what is all that its module does, else None.
    """

    emitter: Emitter
    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    prefix: str
    module: str | None

    @property
    def label(self) -> str:
        return self.function.__name__.strip("_")

    def get(self, index: int, name: str, default: Any = None) -> Any:
        return self.kwargs.get(name, self.args[index] if len(self.args) > index else default)

    def constant(self, index: int, name: str, default: Any = None) -> Any:
        value = self.get(index, name, default)
        if any(isinstance(leaf, Output | Expression | Attribute | Pieces) for leaf in leaves(value)):
            raise InputError(f"operation {self.label!r}: its argument {name!r} must be a constant")
        return value

    def tensor(self, index: int = 0, name: str = "input") -> Output:
        value = self.get(index, name)
        if not isinstance(value, Output):
            raise InputError(f"operation {self.label!r}: its argument {name!r} must depend on the model's input")
        return value

    def emit(self, label: str, primitive: Primitive, *inputs: Output, whole: bool = False) -> Output:
        name = self.module if whole and self.module else self.prefix + label
        return self.emitter.emit(name, primitive, inputs)

    def generic(self, label: str, kind: str, function: Callable | None = None, **settings: Any) -> Output:
        """This very call as an operation of its tensors."""
        inputs, sizes, run = call(function or self.function, self.args, self.kwargs)
        return self.emitter.emit(self.prefix + label, Primitive(kind, run, settings=settings), inputs, sizes)


FUNCTIONS: dict[Callable, Callable[[Call], Any]] = {}


def everywhere(*names: str) -> Iterator[Callable]:
    """The functions of these names in torch, its tensors, its functional module and Python's operators."""
    for space in (torch, torch.Tensor, F, operator):
        for name in names:
            if callable(getattr(space, name, None)):
                yield getattr(space, name)


def _known_as(*names: str) -> Callable[[Callable], Callable]:
    def register(maker: Callable[[Call], Any]) -> Callable[[Call], Any]:
        FUNCTIONS.update(dict.fromkeys(everywhere(*names), maker))
        return maker

    return register


MASKING = frozenset(
    everywhere(
        *("eq", "ne", "lt", "le", "gt", "ge", "logical_not", "isnan", "isinf", "argmax", "argmin"),
        *("ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full", "new_tensor"),
    )
)
"""Functions whose results are no part of their tensors, so that no relevance travels through them."""

SHAPE_METHODS: dict[Callable, Callable[..., Any]] = {
    torch.Tensor.size: lambda shape, dim=None: shape if dim is None else shape[dim],
    torch.Tensor.dim: len,
    torch.Tensor.ndimension: len,
    torch.Tensor.numel: lambda shape: shape.numel(),
    torch.Tensor.nelement: lambda shape: shape.numel(),
    torch.numel: lambda shape: shape.numel(),
}


@_known_as("add", "add_", "iadd")
def _add(call: Call) -> Output:
    a, b = call.args[0], call.get(1, "other")
    if (alpha := call.kwargs.get("alpha", 1)) != 1:
        b = _scaled(call, b, alpha)
    return _sum(call, a, b)


@_known_as("sub", "sub_", "isub", "subtract")
def _subtract(call: Call) -> Output:
    if call.kwargs.keys() - {"other"}:
        raise InputError("operation 'sub': its argument 'alpha' is not supported")
    return _sum(call, call.args[0], _scaled(call, call.get(1, "other"), -1))


@_known_as("rsub")
def _reversed_subtract(call: Call) -> Output:
    return _sum(call, _scaled(call, call.args[0], -1), call.get(1, "other"))


def _sum(call: Call, a: Any, b: Any) -> Output:
    tensors = [value for value in (a, b) if isinstance(value, Output)]
    terms = [value if isinstance(value, Output) else _term(call, value, tensors[0]) for value in (a, b)]
    return call.emit("add", Primitive("add", torch.add), *terms)


def _term(call: Call, value: Any, beside: Output) -> Output:
    """A constant as a term beside an output: numbers get its shape, tensors its number of dimensions."""
    if isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0):
        return call.emitter.scalar(value, beside)
    if isinstance(value, Tensor) and value.shape[0] != 1:
        return call.emitter.aligned(value, beside)
    return call.emitter.tensor(value, call.prefix + "constant")


def _scaled(call: Call, value: Any, factor: Any) -> Any:
    """``value`` times a constant number or tensor."""
    if not isinstance(value, Output):
        return value * factor
    settings = {"factor": factor, "keeps_sign": bool((torch.as_tensor(factor) >= 0).all())}
    return call.emit("scale", Primitive("scale", lambda x: x * factor, settings=settings), value)


@_known_as("addcmul")
def _sum_of_product(call: Call) -> Output:
    if call.kwargs.get("value", 1) != 1:
        raise InputError("operation 'addcmul': its argument 'value' is not supported")
    a, factors = call.get(0, "input"), (call.get(1, "tensor1"), call.get(2, "tensor2"))
    product = factors[0] * factors[1] if not any(isinstance(each, Output) for each in factors) else None
    if product is None:
        product = _multiply(Call(call.emitter, torch.mul, factors, {}, call.prefix, None))
    return _sum(call, a, product)


@_known_as("neg", "neg_", "negative")
def _negative(call: Call) -> Output:
    return _scaled(call, call.args[0], -1)


@_known_as("mul", "mul_", "imul", "multiply")
def _multiply(call: Call) -> Output:
    a, b = call.args[0], call.get(1, "other")
    if isinstance(a, Output) and isinstance(b, Output):
        return call.emit("mul", Primitive("multiply", torch.mul), a, b)
    if isinstance(a, Expression) or isinstance(b, Expression):
        return call.generic("scale", "scale", torch.mul)
    return _scaled(call, a, b) if isinstance(a, Output) else _scaled(call, b, a)


@_known_as("div", "div_", "truediv", "itruediv", "divide", "true_divide")
def _divide(call: Call) -> Output:
    a, b = call.args[0], call.get(1, "other")
    if call.kwargs.keys() - {"other"} or not isinstance(a, Output) or (isinstance(b, Output) and b.carries):
        raise InputError("operation 'div': only division by a constant or a mask is supported; no rule is known for it")
    if isinstance(b, Output):
        inverse = call.emit("reciprocal", Primitive("mask", torch.reciprocal), b)
        return call.emit("mul", Primitive("multiply", torch.mul), a, inverse)
    if isinstance(b, Expression):
        return call.generic("scale", "scale", torch.div)
    return _scaled(call, a, 1 / b)


@_known_as("matmul", "bmm", "mm", "__matmul__")
def _product(call: Call) -> Output:
    a, b = call.args[0], call.get(1, "other", call.kwargs.get("mat2"))
    if isinstance(a, Output) and isinstance(b, Tensor) and b.dim() == 2:
        return call.emit("linear", Primitive.of(Dense(b.detach().T, None), "linear"), a)
    factors = [
        value if isinstance(value, Output) else call.emitter.tensor(value, call.prefix + "constant") for value in (a, b)
    ]
    return call.emit("matmul", Primitive("matmul", torch.matmul), *factors)


@_known_as("einsum")
def _einsum(call: Call) -> Output:
    equation, *factors = call.args
    if len(factors) != 2 or not all(isinstance(each, Output) for each in factors):
        raise InputError("operation 'einsum': only products of two tensors that depend on the image are supported")
    return call.emit("einsum", Primitive("matmul", lambda a, b: torch.einsum(equation, a, b)), *factors)


@_known_as("masked_fill", "masked_fill_")
def _masked_fill(call: Call) -> Output:
    """Very negative values are added, as attention does it; zeros are multiplied."""
    x, mask, value = call.tensor(), call.emitter.tensor(call.get(1, "mask"), "mask"), call.constant(2, "value")
    if value == 0:
        keep = call.emit("keep", Primitive("mask", torch.logical_not), mask)
        return call.emit("mul", Primitive("multiply", torch.mul), x, keep)
    if value > -1e3:
        raise InputError("operation 'masked_fill': only 0 and very negative values are supported")

    def additive(mask: Tensor) -> Tensor:
        dtype = torch.get_default_dtype()
        lowest = max(value, torch.finfo(dtype).min)
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, lowest)

    return call.emit("masked", Primitive("add", torch.add), x, call.emit("mask", Primitive("mask", additive), mask))


@_known_as("where")
def _where(call: Call) -> Output:
    """Each of two tensors times a mask, added; relevance goes to what depends on the image where it was chosen."""
    first, second = (1, 0) if call.function is torch.Tensor.where else (0, 1)
    condition, chosen, other = call.get(first, "condition"), call.get(second, "input"), call.get(2, "other")
    if isinstance(condition, Output) and condition.carries:
        raise InputError("operation 'where': its condition must be a mask: a comparison, or a constant")
    mask = call.emitter.tensor(condition, call.prefix + "mask")
    keep = call.emit("keep", Primitive("mask", _as_numbers), mask)
    drop = call.emit("drop", Primitive("mask", lambda mask: 1 - _as_numbers(mask)), mask)
    beside = next(value for value in (chosen, other, mask) if isinstance(value, Output))
    parts = [_selected(call, value, weight, beside) for value, weight in ((chosen, keep), (other, drop))]
    return call.emit("add", Primitive("add", torch.add), *parts)


def _as_numbers(mask: Tensor) -> Tensor:
    return mask.to(torch.get_default_dtype())


def _selected(call: Call, value: Any, weight: Output, beside: Output) -> Output:
    """``value`` where ``weight`` is 1, and 0 where it is 0."""
    if isinstance(value, Output):
        return call.emit("mul", Primitive("multiply" if value.carries else "mask", torch.mul), value, weight)
    if not isinstance(value, int | float | Tensor):
        raise InputError("operation 'where': what it chooses from must be tensors or constants")
    number = torch.as_tensor(value).detach()
    number = number.nan_to_num() if number.is_floating_point() else number

    def run(weight: Tensor, shape: torch.Size) -> Tensor:
        chosen = weight * number.to(weight.device)
        return chosen.reshape(*[1] * (len(shape) - chosen.dim()), *chosen.shape)

    primitive = Primitive("mask", run, settings={"non_negative": bool((number >= 0).all())})
    return call.emitter.emit(call.prefix + "mul", primitive, (weight,), (beside.name,))


@_known_as("cat", "concat", "concatenate")
def _concatenate(call: Call) -> Output:
    dim = call.constant(1, "dim", call.kwargs.get("axis", 0))
    return _joined(call, call.get(0, "tensors"), dim)


@_known_as("stack")
def _stack(call: Call) -> Output:
    dim = call.constant(1, "dim", 0)
    parts = [
        call.emit("unsqueeze", Primitive("reshape", lambda x: x.unsqueeze(dim)), _part(call, part))
        for part in call.get(0, "tensors")
    ]
    return _joined(call, parts, dim)


def _joined(call: Call, parts: Any, dim: int) -> Output:
    if isinstance(parts, Pieces):
        raise InputError(f"operation {call.label!r}: its tensors must be named one by one")
    parts = [_part(call, part) for part in parts]
    return call.emit("cat", Primitive("concatenate", lambda *x: torch.cat(x, dim), settings={"dim": dim}), *parts)


def _part(call: Call, part: Any) -> Output:
    return part if isinstance(part, Output) else call.emitter.tensor(part, call.prefix + "constant")


REARRANGING = (
    *("flatten", "unflatten", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint"),
    *("unsqueeze", "squeeze", "expand", "broadcast_to", "repeat", "tile", "repeat_interleave", "roll", "select"),
    *("unfold", "narrow", "flip", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "diagonal"),
)


@_known_as(*REARRANGING)
def _rearrange(call: Call) -> Output:
    return call.generic(call.label, "reshape")


@_known_as("view", "reshape")
def _reshape(call: Call) -> Output:
    # A view may be impossible in the memory format in which a graph runs.
    return call.generic(call.label, "reshape", torch.Tensor.reshape)


@_known_as("view_as", "reshape_as", "expand_as")
def _as_other(call: Call) -> Output:
    other, function = (
        call.tensor(1, "other"),
        torch.Tensor.expand if call.label == "expand_as" else torch.Tensor.reshape,
    )
    shape = Expression((other.name,), lambda shapes: shapes[other.name])
    return Call(call.emitter, call.function, (call.args[0], shape), {}, call.prefix, None).generic(
        call.label, "reshape", function
    )


@_known_as("getitem")
def _getitem(call: Call) -> Any:
    source, index = call.args
    if isinstance(source, Pieces):
        return _some(source, index) if isinstance(index, slice) else source.take(index)
    if any(isinstance(leaf, Output) for leaf in leaves(index)):
        raise InputError("operation 'getitem': no rule is known for an index that depends on the model's input")
    return call.generic("slice", "reshape")


def _some(source: Pieces, index: slice) -> tuple[Any, ...]:
    start, stop, step = index.start or 0, index.stop, index.step or 1
    if not (isinstance(start, int) and isinstance(stop, int) and start >= 0 and stop >= 0):
        raise InputError("operation 'getitem': a slice of several tensors must count from the first")
    return tuple(source.take(i) for i in range(start, stop, step))


@_known_as("setitem")
def _part_overwritten(call: Call) -> Output:
    raise InputError("operation 'setitem': a part of a tensor is overwritten; make a new one, as by cat or where")


@_known_as("pad")
def _pad(call: Call) -> Output:
    """Copies of the input's own values, or a constant, which takes no relevance: a rearrangement either way."""
    if call.constant(2, "mode", "constant") == "constant":
        value = call.constant(3, "value", 0)
        return call.generic("pad", "reshape", keeps_sign=value is None or value >= 0)
    return call.generic("pad", "reshape", copies_border=True)


@_known_as("chunk", "split", "tensor_split", "unbind", "split_with_sizes")
def _pieces(call: Call) -> Pieces:
    def take(index: int) -> Output:
        return call.generic(call.label, "reshape", lambda *args, **kwargs: call.function(*args, **kwargs)[index])

    return Pieces(take)


@_known_as("contiguous", "clone", "detach", "dropout", "dropout_", "dropout1d", "dropout2d", "alpha_dropout")
def _skip(call: Call) -> Output:
    return call.tensor()


@_known_as("to", "type", "type_as", "float", "double", "half", "bfloat16")
def _cast(call: Call) -> Output:
    """To a fixed dtype a cast is done; to that or the device of another tensor it is left out."""
    if any(isinstance(leaf, Output | Attribute) for leaf in leaves((call.args[1:], call.kwargs))):
        return call.tensor()
    return call.generic(call.label, "identity")


@_known_as("relu", "relu_")
def _relu(call: Call) -> Output:
    return call.emit("relu", Primitive("relu", F.relu), call.tensor(), whole=True)


@_known_as("gelu")
def _gelu(call: Call) -> Output:
    primitive = vocabulary.gelu(call.constant(1, "approximate", "none"))
    return call.emit("gelu", primitive, call.tensor(), whole=True)


@_known_as("softmax")
def _softmax(call: Call) -> Output:
    return call.emit("softmax", vocabulary.softmax(call.constant(1, "dim")), call.tensor(), whole=True)


@_known_as("log_softmax")
def _log_softmax(call: Call) -> Output:
    return call.emit("log_softmax", vocabulary.log_softmax(call.constant(1, "dim")), call.tensor(), whole=True)


@_known_as("prelu")
def _prelu(call: Call) -> Output:
    return call.emit("prelu", vocabulary.prelu(_fixed(call, 1, "weight")), call.tensor(), whole=True)


@_known_as("rrelu", "rrelu_")
def _randomised_relu(call: Call) -> Output:
    slope = (call.constant(1, "lower", 1 / 8) + call.constant(2, "upper", 1 / 3)) / 2
    return call.emit("rrelu", vocabulary.leaky_relu(slope), call.tensor(), whole=True)


@_known_as("threshold", "threshold_")
def _threshold(call: Call) -> Output:
    primitive = vocabulary.threshold(call.constant(1, "threshold"), call.constant(2, "value"))
    return call.emit("threshold", primitive, call.tensor(), whole=True)


@_known_as("glu")
def _gated(call: Call) -> Output:
    dim = call.constant(1, "dim", -1)
    value, gate = (
        call.emit("half", Primitive("reshape", lambda x, i=i: x.chunk(2, dim)[i]), call.tensor()) for i in (0, 1)
    )
    gate = call.emit("sigmoid", vocabulary.activation("sigmoid", torch.sigmoid, True), gate)
    return call.emit("mul", Primitive("multiply", torch.mul), value, gate)


_NON_NEGATIVE = ("sigmoid", "hardsigmoid", "relu6", "softplus")
_SIGNED = (
    *("tanh", "silu", "mish", "hardswish", "leaky_relu", "elu", "selu", "celu"),
    *("softsign", "logsigmoid", "softshrink", "hardshrink", "tanhshrink"),
)


@_known_as(*_NON_NEGATIVE, *_SIGNED, *(name + "_" for name in (*_NON_NEGATIVE, *_SIGNED)))
def _activation(call: Call) -> Output:
    function = next(everywhere(call.label)) if call.function.__name__.endswith("_") else call.function
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ("inplace", "input")}
    rest = [value for value in call.args[1:] if not isinstance(value, bool)]
    primitive = vocabulary.activation(call.label, lambda x: function(x, *rest, **kwargs), call.label in _NON_NEGATIVE)
    return call.emit(call.label, primitive, call.tensor(), whole=True)


@_known_as("clamp_max", "clamp_max_")
def _clamp_above(call: Call) -> Output:
    high = call.constant(1, "max")
    return call.emit("clamp", vocabulary.activation("clamp", lambda x: x.clamp(max=high)), call.tensor(), whole=True)


@_known_as("clamp", "clamp_", "clip", "clip_", "hardtanh", "hardtanh_", "clamp_min", "clamp_min_")
def _clamp(call: Call) -> Output:
    names, defaults = (("min_val", "max_val"), (-1.0, 1.0)) if "tanh" in call.label else (("min", "max"), (None, None))
    low, high = (call.constant(i + 1, names[i], defaults[i]) for i in (0, 1))
    if low == 0 and high is None:
        return _relu(call)
    primitive = vocabulary.activation("clamp", lambda x: x.clamp(low, high), low is not None and low >= 0)
    return call.emit("clamp", primitive, call.tensor(), whole=True)


@_known_as(
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "interpolate", "upsample", "fold"),
)
def _average_pool(call: Call) -> Output:
    return call.generic("avgpool", "average_pool")


@_known_as("mean", "sum")
def _mean(call: Call) -> Output:
    dims = call.constant(1, "dim", call.kwargs.get("axis"))
    if dims is None or 0 in ((dims,) if isinstance(dims, int) else dims):
        raise InputError(
            f"operation {call.label!r}: it must name its dimensions, and not the first, that of the images"
        )
    return call.generic(call.label, "average_pool")


@_known_as("max_pool2d")
def _maximum_pool(call: Call) -> Output:
    kwargs = {key: value for key, value in call.kwargs.items() if key != "input"}
    return call.emit("max_pool", vocabulary.maximum_pool(*call.args[1:], **kwargs), call.tensor())


FUNCTIONS[F.max_pool2d] = _maximum_pool


def _selecting(pool: Callable) -> Callable[[Call], Output]:
    def of(call: Call) -> Output:
        kwargs = {key: value for key, value in call.kwargs.items() if key != "input"}
        return call.emit("max_pool", vocabulary.selecting_window(pool, *call.args[1:], **kwargs), call.tensor())

    return of


FUNCTIONS |= {pool: _selecting(F.max_pool1d) for pool in (F.max_pool1d, torch.max_pool1d)}
FUNCTIONS |= {pool: _selecting(F.max_pool3d) for pool in (F.max_pool3d, torch.max_pool3d)}


def _adaptive(pool: Callable) -> Callable[[Call], Output]:
    def of(call: Call) -> Output:
        if call.constant(2, "return_indices", False):
            raise InputError("a maximum pool that also returns its indices is not supported")
        size = call.constant(1, "output_size")
        primitive = vocabulary.selecting(lambda x, return_indices: pool(x, size, return_indices))
        return call.emit("max_pool", primitive, call.tensor())

    return of


FUNCTIONS |= {pool: _adaptive(pool) for pool in (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)}


@_known_as("layer_norm")
def _layer_norm(call: Call) -> Output:
    names = (("normalized_shape", None), ("weight", None), ("bias", None), ("eps", 1e-5))
    primitive = vocabulary.layer_norm(*(_fixed(call, i + 1, *name) for i, name in enumerate(names)))
    return call.emit("layer_norm", primitive, call.tensor(), whole=True)


@_known_as("rms_norm")
def _rms_norm(call: Call) -> Output:
    primitive = vocabulary.rms_norm(
        call.constant(1, "normalized_shape"), _fixed(call, 2, "weight"), call.constant(3, "eps")
    )
    return call.emit("rms_norm", primitive, call.tensor(), whole=True)


@_known_as("group_norm")
def _group_norm(call: Call) -> Output:
    names = (("num_groups", None), ("weight", None), ("bias", None), ("eps", 1e-5))
    primitive = vocabulary.group_norm(*(_fixed(call, i + 1, *name) for i, name in enumerate(names)))
    return call.emit("group_norm", primitive, call.tensor(), whole=True)


@_known_as("instance_norm")
def _instance_norm(call: Call) -> Output:
    names = ("running_mean", "running_var", "weight", "bias", "use_input_stats")
    mean, variance, weight, bias, own = (_fixed(call, i + 1, name) for i, name in enumerate(names))
    eps = call.constant(7, "eps", 1e-5)
    if own is False:
        return call.emit(
            "batch_norm", vocabulary.batch_norm(mean, variance, weight, bias, eps), call.tensor(), whole=True
        )
    return call.emit("instance_norm", vocabulary.instance_norm(weight, bias, eps), call.tensor(), whole=True)


@_known_as("normalize")
def _normalize(call: Call) -> Output:
    names = (("p", 2.0), ("dim", 1), ("eps", 1e-12))
    primitive = vocabulary.unit_norm(*(call.constant(i + 1, *name) for i, name in enumerate(names)))
    return call.emit("normalize", primitive, call.tensor())


@_known_as("batch_norm")
def _batch_norm(call: Call) -> Output:
    names = ("running_mean", "running_var", "weight", "bias")
    terms = [_fixed(call, i + 1, name) for i, name in enumerate(names)]
    primitive = vocabulary.batch_norm(*terms, call.constant(7, "eps", 1e-5))
    return call.emit("batch_norm", primitive, call.tensor(), whole=True)


@_known_as("linear")
def _linear(call: Call) -> Output:
    affine = Dense(_fixed(call, 1, "weight"), _fixed(call, 2, "bias"))
    return call.emit("linear", Primitive.of(affine, "linear"), call.tensor(), whole=True)


@_known_as("conv1d", "conv2d", "conv3d")
def _convolution(call: Call) -> Output:
    x, padding = call.tensor(), call.constant(4, "padding", 0)
    window = {"stride": call.constant(3, "stride", 1), "dilation": call.constant(5, "dilation", 1)}
    affine = Convolution(
        _fixed(call, 1, "weight"), _fixed(call, 2, "bias"), **window, groups=call.constant(6, "groups", 1)
    )
    if padding == "valid":
        padding = 0
    if padding == "same":
        # Where the number of zeros is odd, torch has one more at the end.
        total = [dilation * (kernel - 1) for dilation, kernel in zip(affine.dilation, affine.kernel, strict=True)]
        padding = tuple(number // 2 for number in total)
        if any(number % 2 for number in total):
            ends = [end for number in reversed(total) for end in (0, number % 2)]
            x = call.emit("pad", Primitive("reshape", lambda x: F.pad(x, ends)), x)
    affine = replace(affine, padding=padding)
    return call.emit("conv", Primitive.of(affine, "conv"), x, whole=True)


@_known_as("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(call: Call) -> Output:
    names = (("stride", 1), ("padding", 0), ("output_padding", 0), ("groups", 1), ("dilation", 1))
    window = {name: call.constant(i + 3, name, default) for i, (name, default) in enumerate(names)}
    affine = TransposedConvolution(_fixed(call, 1, "weight"), _fixed(call, 2, "bias"), **window)
    return call.emit("conv", Primitive.of(affine, "conv"), call.tensor(), whole=True)


@_known_as("embedding")
def _embedding(call: Call) -> Output:
    primitive = vocabulary.embedding(_fixed(call, 1, "weight"), call.constant(2, "padding_idx"))
    return call.emit("embedding", primitive, call.tensor(), whole=True)


def _fixed(call: Call, index: int, name: str, default: Any = None) -> Any:
    value = call.constant(index, name, default)
    return value.detach() if isinstance(value, Tensor) else value


def _attention(call: Call) -> Output:
    if call.kwargs.get("enable_gqa"):
        raise InputError("operation 'scaled_dot_product_attention': enable_gqa is not supported")
    return attend(
        call.emitter,
        call.prefix,
        *(call.tensor(i, name) for i, name in enumerate(("query", "key", "value"))),
        scale=call.constant(6, "scale"),
        mask=call.get(3, "attn_mask"),
        is_causal=call.constant(5, "is_causal", False),
    )


FUNCTIONS[F.scaled_dot_product_attention] = _attention
