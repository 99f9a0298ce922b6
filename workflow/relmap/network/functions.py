"""Which function or tensor method is which kind of operation.

Each maker takes a ``Call``, with operations' outputs among its arguments, and adds what the call means to the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.network import vocabulary
from relmap.network.affine import Convolution, Dense, TransposedConvolution
from relmap.network.attention import Emitter, attend
from relmap.network.sizes import Attribute, Expression, Output, Pieces, call, leaves
from relmap.network.vocabulary import Primitive


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

    def emit(
        self,
        label: str,
        primitive: Primitive,
        *inputs: Output,
        whole: bool = False,
        constants: tuple[Output, ...] = (),
    ) -> Output:
        name = self.module if whole and self.module else self.prefix + label
        return self.emitter.emit(name, primitive, inputs, (), constants)

    def fixed(self, value: Any, label: str) -> Output:
        """What is no part of the input, as an operation's output."""
        return self.emitter.tensor(value, self.prefix + label)

    def mask(self, label: str, run: Callable[..., Tensor], *of: Output, non_negative: bool = False) -> Output:
        """A function of operations' outputs through which no relevance goes."""
        return self.emit(label, Primitive("mask", run, settings={"non_negative": non_negative}), *of)

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


COMPARING = frozenset(
    everywhere(
        *("eq", "ne", "lt", "le", "gt", "ge", "greater", "greater_equal", "less", "less_equal", "not_equal"),
        *("logical_not", "logical_and", "logical_or", "isnan", "isinf", "isfinite", "argmax", "argmin", "signbit"),
        *("ones_like", "zeros_like", "new_zeros", "new_ones"),
    )
)
"""Functions whose results are no part of their tensors, and not negative."""

ZEROS = frozenset(everywhere("zeros_like", "new_zeros"))

MASKING = COMPARING | frozenset(everywhere("full_like", "new_full", "new_tensor", "new_empty", "empty_like", "sign"))
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
        if a.carries and b.carries:
            return call.emit("mul", Primitive("multiply", torch.mul), a, b)
        x, factor = (a, b) if a.carries else (b, a)
        return call.emit("scale", Primitive("scale", torch.mul), x, constants=(factor,))
    if isinstance(a, Expression) or isinstance(b, Expression):
        return call.generic("scale", "scale", torch.mul)
    return _scaled(call, a, b) if isinstance(a, Output) else _scaled(call, b, a)


@_known_as("div", "div_", "truediv", "itruediv", "divide", "true_divide")
def _divide(call: Call) -> Output:
    a, b = call.args[0], call.get(1, "other")
    if call.kwargs.keys() - {"other"} or not isinstance(a, Output) or (isinstance(b, Output) and b.carries):
        raise InputError("operation 'div': only division by a constant or a mask is supported; no rule is known for it")
    if isinstance(b, Output):
        inverse = call.mask("reciprocal", torch.reciprocal, b)
        return call.emit("scale", Primitive("scale", torch.mul), a, constants=(inverse,))
    if isinstance(b, Expression):
        return call.generic("scale", "scale", torch.div)
    return _scaled(call, a, 1 / b)


def _selected(call: Call, x: Output, keep: Output) -> Output:
    """``x`` where ``keep``, 0 elsewhere: also where x is infinite there."""

    def run(x: Tensor, keep: Tensor) -> Tensor:
        return torch.where(keep.bool(), x, torch.zeros((), dtype=x.dtype, device=x.device))

    return call.emit("select", Primitive("scale", run, settings={"keeps_sign": True}), x, constants=(keep,))


def _put_together(call: Call, keep: Output, x: Any, other: Any) -> Output:
    """``x`` where ``keep``, ``other`` elsewhere; at least one of them carries relevance."""
    drop = call.mask("drop", torch.logical_not, keep, non_negative=True)
    parts = []
    for value, where in ((x, keep), (other, drop)):
        if isinstance(value, Output) and value.carries:
            parts.append(_selected(call, value, where))
        elif isinstance(value, Output):
            parts += [] if value.zero else [call.mask("filled", _filled, where, value)]
        elif bool((torch.as_tensor(value) != 0).any()):
            parts.append(call.mask("filled", lambda where, value=value: _filled(where, value), where))
    return parts[0] if len(parts) == 1 else call.emit("add", Primitive("add", torch.add), *parts)


def _filled(where: Tensor, value: Any) -> Tensor:
    value = torch.as_tensor(value, device=where.device)
    value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    return torch.where(where.bool(), value, torch.zeros((), dtype=value.dtype, device=value.device))


@_known_as("masked_fill", "masked_fill_")
def _masked_fill(call: Call) -> Output:
    """Very negative values are added, as attention does it; others stand in the place of what they replace."""
    x, mask, value = call.tensor(), call.fixed(call.get(1, "mask"), "mask"), call.constant(2, "value")
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return _hidden(call, x, mask, value)


def _hidden(call: Call, x: Output, mask: Output, value: float) -> Output:
    if value > -1e3:
        return _put_together(call, call.mask("keep", torch.logical_not, mask, non_negative=True), x, value)

    def additive(mask: Tensor) -> Tensor:
        dtype = torch.get_default_dtype()
        lowest = max(value, torch.finfo(dtype).min)
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask.bool(), lowest)

    return call.emit("masked", Primitive("add", torch.add), x, call.mask("mask", additive, mask))


@_known_as("where")
def _where(call: Call) -> Output:
    if not (len(call.args) == 3 or call.kwargs.keys() >= {"input", "other"}):
        raise InputError(
            "operation 'where': indices of what is true are no part of an image that relevance could reach"
        )
    condition, x, other = call.get(0, "condition"), call.get(1, "input", call.kwargs.get("self")), call.get(2, "other")
    if call.function is torch.Tensor.where:  # x.where(condition, other)
        condition, x = call.get(1, "condition"), call.args[0]
    if isinstance(condition, Output) and condition.carries:
        raise InputError("operation 'where': its condition must be a comparison or a constant")
    keep = call.fixed(condition, "condition")
    if isinstance(other, int | float) and other <= -1e3 and isinstance(x, Output) and x.carries:
        return _hidden(call, x, call.mask("hidden", torch.logical_not, keep, non_negative=True), other)
    return _put_together(call, keep, x, other)


def set_item(x: Tensor, index: Any, value: Any) -> Tensor:
    """``x`` in which the part at an index is replaced, out of place."""
    x = x.clone()
    x[index] = value
    return x


@_known_as("setitem")
def _set_item(call: Call) -> Output:
    x, index, value = call.args
    if any(isinstance(leaf, Output) and leaf.carries for leaf in leaves(index)):
        raise InputError("operation 'setitem': no rule is known for an index that depends on the model's input")
    like = call.fixed(x, "constant")

    def kept(x: Tensor, index: Any) -> Tensor:
        return set_item(torch.ones(x.shape, dtype=torch.bool, device=x.device), index, False)

    keep = Call(call.emitter, call.function, (like, index), {}, call.prefix, None).generic("keep", "mask", kept)
    if not isinstance(value, Output):
        return _put_together(call, keep, x, value)

    def placed(value: Tensor, shape: torch.Size, index: Any) -> Tensor:
        return set_item(value.new_zeros(shape), index, value)

    shape = Expression((like.name,), lambda shapes: shapes[like.name])
    kind = "reshape" if value.carries else "mask"
    there = Call(call.emitter, call.function, (value, shape, index), {}, call.prefix, None).generic(
        "place", kind, placed
    )
    if isinstance(x, Output) and x.carries:
        return call.emit("add", Primitive("add", torch.add), _selected(call, x, keep), there)
    rest = call.mask("filled", _filled, keep, like)
    return call.emit("add", Primitive("add", torch.add), rest, there)


@_known_as("matmul", "bmm", "mm", "__matmul__", "__rmatmul__")
def _product(call: Call) -> Output:
    a, b = call.args[0], call.get(1, "other", call.kwargs.get("mat2"))
    if call.label == "rmatmul":
        a, b = b, a
    if isinstance(a, Output) and isinstance(b, Tensor) and b.dim() == 2:
        return _dense(call, a, b.T)
    if isinstance(a, Output) and isinstance(b, Tensor) and b.dim() == 1:
        return call.emit("squeeze", _moving(lambda x: x.squeeze(-1), "squeeze"), _dense(call, a, b[None]))
    if isinstance(a, Tensor) and isinstance(b, Output) and a.dim() == 2:
        return _transposed(call, _dense(call, _transposed(call, b), a))
    factors = [value if isinstance(value, Output) else call.fixed(value, "constant") for value in (a, b)]
    return call.emit("matmul", Primitive("matmul", torch.matmul), *factors)


def _dense(call: Call, x: Output, weight: Tensor, bias: Tensor | None = None) -> Output:
    """``weight x + bias`` over the last dimension of x."""
    return call.emit("linear", Primitive.of(Dense(weight.detach(), bias), "linear"), x)


def _transposed(call: Call, x: Output) -> Output:
    return call.emit("transpose", _moving(lambda x: x.transpose(-2, -1), "transpose", -2, -1), x)


def _moving(run: Callable[[Tensor], Tensor], label: str, *args: Any) -> Primitive:
    return Primitive("reshape", run, settings={"moves": (label, args, {})})


@_known_as("addmm")
def _add_product(call: Call) -> Output:
    bias, x, weight = (call.get(i, name) for i, name in enumerate(("input", "mat1", "mat2")))
    if {call.kwargs.get("alpha", 1), call.kwargs.get("beta", 1)} != {1} or isinstance(bias, Output):
        raise InputError("operation 'addmm': only a constant bias without factors is supported")
    if not (isinstance(x, Output) and isinstance(weight, Tensor)):
        raise InputError("operation 'addmm': its second matrix must be a constant")
    return _dense(call, x, weight.T, bias.detach().expand(weight.shape[1]))


@_known_as("einsum")
def _einsum(call: Call) -> Output:
    """Of one tensor a rearrangement or sum; of two that depend on the input their product; of a constant a layer."""
    equation, operands = call.args[0], call.args[1:]
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else list(operands)
    if len(operands) == 1:
        return call.emit(
            "einsum",
            Primitive("average_pool", lambda x: torch.einsum(equation, x), settings={"moves": None}),
            *operands,
        )
    if len(operands) != 2:
        raise InputError("operation 'einsum': no rule is known for a product of more than two tensors")
    carrying = [isinstance(value, Output) and value.carries for value in operands]
    if not all(carrying) and isinstance(operands[carrying.index(False)], Tensor):
        layer = _einsum_layer(call, equation, operands[carrying.index(True)], operands[carrying.index(False)], carrying)
        if layer is not None:
            return layer
    factors = [value if isinstance(value, Output) else call.fixed(value, "constant") for value in operands]
    return call.emit(
        "einsum", Primitive("matmul", lambda a, b: torch.einsum(equation, a, b), settings={"moves": None}), *factors
    )


def _einsum_layer(call: Call, equation: str, x: Output, weight: Tensor, carrying: list[bool]) -> Output | None:
    """A contraction with a constant as a linear layer; None where its indices also run along the result with x's."""
    if "->" not in equation or "." in equation:
        return None
    left, result = equation.replace(" ", "").split("->")
    of_x, of_weight = left.split(",") if carrying[0] else reversed(left.split(","))
    shared = [index for index in of_x if index in of_weight]
    new = [index for index in of_weight if index not in of_x]
    kept = [index for index in of_x if index not in of_weight]
    if not shared or any(index in result for index in shared) or sorted(result) != sorted(kept + new):
        return None
    if any(len(set(indices)) < len(indices) for indices in (of_x, of_weight)):
        return None
    widths = [weight.shape[of_weight.index(index)] for index in new]
    matrix = weight.detach().permute([of_weight.index(index) for index in (*new, *shared)])
    matrix = matrix.reshape(-1, matrix[(0,) * len(new)].numel())
    order = [of_x.index(index) for index in (*kept, *shared)]
    if len(shared) == len(new) == 1 and order == sorted(order) and [*kept, *new] == list(result):
        return _dense(call, x, matrix)
    flat = Primitive("reshape", lambda x: x.permute(order).flatten(len(kept)))
    y = _dense(call, call.emit("permute", flat, x), matrix)
    back = [(*kept, *new).index(index) for index in result]
    return call.emit(
        "unflatten",
        Primitive(
            "reshape", lambda y: y.unflatten(-1, widths or [1]).permute(back) if widths else y.squeeze(-1).permute(back)
        ),
        y,
    )


@_known_as("cat", "concat", "concatenate")
def _concatenate(call: Call) -> Output:
    dim = call.constant(1, "dim", call.kwargs.get("axis", 0))
    return _joined(call, call.get(0, "tensors"), dim)


@_known_as("stack")
def _stack(call: Call) -> Output:
    dim = call.constant(1, "dim", 0)
    parts = [
        call.emit("unsqueeze", _moving(lambda x: x.unsqueeze(dim), "unsqueeze"), _part(call, part))
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
    return call.generic(call.label, "reshape", moves=_moves(call))


def _moves(call: Call) -> tuple[str, tuple, dict[str, Any]]:
    """What a rearrangement does, for who follows the images through it."""
    return call.label, call.args[1:], {name: value for name, value in call.kwargs.items() if name != "input"}


@_known_as("view", "reshape")
def _reshape(call: Call) -> Output:
    # A view may be impossible in the memory format in which a graph runs.
    return call.generic(call.label, "reshape", torch.Tensor.reshape, moves=_moves(call))


@_known_as("view_as", "reshape_as", "expand_as")
def _as_other(call: Call) -> Output:
    other, function = (
        call.tensor(1, "other"),
        torch.Tensor.expand if call.label == "expand_as" else torch.Tensor.reshape,
    )
    shape = Expression((other.name,), lambda shapes: shapes[other.name])
    return Call(call.emitter, call.function, (call.args[0], shape), {}, call.prefix, None).generic(
        call.label, "reshape", function, moves=(call.label, (), {})
    )


@_known_as("getitem")
def _getitem(call: Call) -> Any:
    source, index = call.args
    if isinstance(source, Pieces):
        return _some(source, index) if isinstance(index, slice) else source.take(index)
    if any(isinstance(leaf, Output) for leaf in leaves(index)):
        raise InputError("operation 'getitem': no rule is known for an index that depends on the model's input")
    return call.generic("slice", "reshape", moves=("getitem", (index,), {}))


def _some(source: Pieces, index: slice) -> tuple[Any, ...]:
    start, stop, step = index.start or 0, index.stop, index.step or 1
    if not (isinstance(start, int) and isinstance(stop, int) and start >= 0 and stop >= 0):
        raise InputError("operation 'getitem': a slice of several tensors must count from the first")
    return tuple(source.take(i) for i in range(start, stop, step))


@_known_as("pad")
def _pad(call: Call) -> Output:
    """Copies of the input's own values, or a constant, which takes no relevance: a rearrangement either way."""
    if call.constant(2, "mode", "constant") == "constant":
        value = call.constant(3, "value", 0)
        return call.generic("pad", "reshape", keeps_sign=value is None or value >= 0, moves=_moves(call))
    return call.generic("pad", "reshape", moves=_moves(call))


@_known_as("chunk", "split", "tensor_split", "unbind", "split_with_sizes")
def _pieces(call: Call) -> Pieces:
    def take(index: int) -> Output:
        function = call.function
        return call.generic(
            call.label, "reshape", lambda *args, **kwargs: function(*args, **kwargs)[index], moves=_moves(call)
        )

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
        call.emit("half", _moving(lambda x, i=i: x.chunk(2, dim)[i], "chunk", 2, dim), call.tensor()) for i in (0, 1)
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
    if dims is None:
        raise InputError(f"operation {call.label!r}: it must name its dimensions, and not that of the images")
    return call.generic(call.label, "average_pool", dims=(dims,) if isinstance(dims, int) else tuple(dims))


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
            x = call.emit("pad", _moving(lambda x: F.pad(x, ends), "pad", ends), x)
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
