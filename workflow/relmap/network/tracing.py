"""A model turned into operations.

An operation is named by its module's path (``features.28``, ``layer1.0.conv2``); a module that is used again gets
``_1``, ``_2`` (torchvision's ``layer1.0.relu``), a function the path of the module it is called in (``layer1.0.add``).
The user's model is never changed: operations hold detached references to its parameters, in-place functions run out of
place, dropout is left out, batch norms use their running statistics, and hooks are not called, but for those that make
weights (weight norm, spectral norm, pruning). Half-precision weights become float32 ones.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from relmap.errors import InputError
from relmap.network.attention import fused_attention, is_fused_attention, multihead_attention
from relmap.network.copied import in_single_precision, refresh_weights, structural_copy
from relmap.network.following import Followed, attribute, follow, is_in_place, live_nodes, overwritten
from relmap.network.functions import COMPARING, FUNCTIONS, MASKING, SHAPE_METHODS, ZEROS, Call, set_item
from relmap.network.graph import Graph, Guard, Operation
from relmap.network.simplified import merged_biases
from relmap.network.sizes import Attribute, Expression, Output, Pieces, call, expression, leaves
from relmap.network.vocabulary import OPERATIONS, Primitive, advice, is_omitted, named, primitive_of, rearrangement


def _carries(leaf: Any) -> bool:
    return isinstance(leaf, Pieces) or (isinstance(leaf, Output) and leaf.carries)


class _Builder:
    """Turns fx nodes into operations. ``values`` holds what each node stands for."""

    def __init__(self, model: nn.Module, places: dict[torch.fx.Node, str]) -> None:
        self.model = model
        self.places = places
        self.operations: list[Operation] = []
        self.values: dict[torch.fx.Node, Any] = {}
        self._taken: set[str] = set()
        self._labels: dict[int, tuple[Any, str]] = {}  # by id, with what has the id
        self._constants: dict[int, tuple[Any, Output]] = {}
        self._primitives: dict[nn.Module, Primitive | None] = {}

    def emit(
        self,
        name: str,
        primitive: Primitive,
        inputs: tuple[Output, ...],
        sizes: tuple[str, ...] = (),
        constants: tuple[Output, ...] = (),
    ) -> Output:
        name, count = name if name not in self._taken else f"{name}_1", 1
        while name in self._taken:
            count += 1
            name = f"{name.rpartition('_')[0]}_{count}"
        self._taken.add(name)
        names, fixed = (tuple(source.name for source in sources) for sources in (inputs, constants))
        self.operations.append(
            Operation(name, primitive.kind, names, primitive.run, primitive.affine, primitive.settings, sizes, fixed)
        )
        carries = primitive.kind != "mask" and any(source.carries for source in inputs)
        return Output(name, carries or primitive.kind == "input", primitive.settings.get("zero", False))

    def _label(self, value: Any, default: str) -> str:
        return self._labels.get(id(value), (None, default))[1]

    def tensor(self, value: Any, name: str) -> Output:
        """A value as an operation's output: constants become parameters."""
        if isinstance(value, Output):
            return value
        if id(value) in self._constants:
            return self._constants[id(value)][1]
        if isinstance(value, Tensor):
            constant = value.detach()
            settings = {"non_negative": bool((constant >= 0).all()), "value": constant}
            primitive = Primitive("parameter", lambda: constant, settings=settings)
            output = self.emit(self._label(value, name), primitive, ())
        elif isinstance(value, Expression):
            output = self._of_shapes(value, name)
        else:
            raise InputError(f"operation {name!r}: {value!r} is no tensor")
        self._constants[id(value)] = value, output
        return output

    def scalar(self, value: float | Tensor, like: Output) -> Output:
        """A number as a parameter of the shape of another output."""
        parameter = next((p for p in self.model.parameters() if p.is_floating_point()), torch.empty(0))
        number = torch.as_tensor(value, dtype=parameter.dtype, device=parameter.device).detach()
        settings = {"non_negative": bool(number >= 0), "value": number}
        primitive = Primitive("parameter", number.expand, settings=settings)
        return self.emit("constant", primitive, (), (like.name,))

    def aligned(self, value: Tensor, like: Output) -> Output:
        """A constant as a parameter with leading dimensions of 1, as many dimensions as another output has."""
        constant = value.detach()

        def run(shape: torch.Size) -> Tensor:
            return constant.reshape(*[1] * (len(shape) - constant.dim()), *constant.shape)

        settings = {"non_negative": bool((constant >= 0).all()), "value": constant}
        primitive = Primitive("parameter", run, settings=settings)
        return self.emit(self._label(value, "constant"), primitive, (), (like.name,))

    def _of_shapes(self, value: Expression, name: str) -> Output:
        def run(*shapes: torch.Size) -> Tensor:
            return value.evaluate(dict(zip(value.names, shapes, strict=True)))

        return self.emit(self._label(value, name), Primitive("parameter", run), (), value.names)

    def node(self, node: torch.fx.Node) -> None:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        if node.op == "get_attr":
            self.values[node] = self._attribute(str(node.target))
        elif node.op == "call_module":
            self.values[node] = self._module(str(node.target), args, kwargs)
        else:
            self.values[node] = self._function(node, args, kwargs)
        changed, *wholes = overwritten(self.model, node) or [None]
        if changed is not None:
            self.values[changed] = self.values[node]
        for whole in wholes:
            self.values[whole] = self._with_part(whole, changed)
            changed = whole

    def _with_part(self, whole: torch.fx.Node, part: torch.fx.Node) -> Any:
        """The value of ``whole`` when its part has been overwritten."""
        index = torch.fx.map_arg(part.args[1], self.values.__getitem__)
        arguments = (self.values[whole], index, self.values[part])
        outputs = [leaf for leaf in leaves(arguments) if isinstance(leaf, Output)]
        place = self.places.get(part, "")
        prefix = f"{place}." if place else ""
        if any(output.carries for output in outputs):
            return FUNCTIONS[operator.setitem](Call(self, operator.setitem, arguments, {}, prefix, None))
        if outputs:
            inputs, sizes, run = call(set_item, arguments, {})
            return self.emit(f"{prefix}mask", Primitive("mask", run), inputs, sizes)
        return expression(set_item, arguments, {})

    def _attribute(self, path: str) -> Any:
        value = attribute(self.model, path)
        if isinstance(value, Tensor):
            value = value.detach()
            self._labels[id(value)] = value, path
        return value

    def _module(self, path: str, args: tuple, kwargs: dict) -> Any:
        module = self.model.get_submodule(path)
        if is_omitted(module):
            return args[0] if args else kwargs["input"]
        try:
            if isinstance(module, nn.MultiheadAttention):
                bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
                return multihead_attention(self, path, **{"module": bound.pop("self"), **bound})
            if is_fused_attention(module):
                return self._fused_attention(path, module, *args, **kwargs)
            if module not in self._primitives:
                self._primitives[module] = primitive_of(module)
            primitive = self._primitives[module]
        except InputError as error:
            raise InputError(f"layer {path!r}: {error}") from error
        if primitive is None:
            raise InputError(
                f"layer {path!r}: no rule is known for {type(module).__name__}; "
                + advice(type(module).__name__, any(True for _ in module.parameters()))
            )
        inputs = tuple(self.tensor(value, path + ".input") for value in (*args, *kwargs.values()))
        return self.emit(path, primitive, inputs)

    def _fused_attention(self, path, module, x, attn_mask=None, is_causal=False) -> Output:
        if is_causal:
            raise InputError("causal attention is not supported here")
        return fused_attention(self, path, module, x, attn_mask)

    def _function(self, node: torch.fx.Node, args: tuple, kwargs: dict) -> Any:
        function, place = node.target, self.places.get(node, "")
        found = leaves((args, kwargs))
        tensors = [leaf for leaf in found if isinstance(leaf, Output | Attribute | Pieces)]
        if node.op == "call_method":
            function = getattr(torch.Tensor, node.target, None) if tensors else operator.methodcaller(node.target)
        function = (
            set_item if function is operator.setitem and not any(_carries(leaf) for leaf in tensors) else function
        )
        if not tensors:
            return self._of_constants(node, function, args, kwargs)
        if function is getattr:
            return self._attribute_of(args[0], args[1], place)
        if function in SHAPE_METHODS:
            name, method = args[0].name, SHAPE_METHODS[function]
            return expression(method, (Expression((name,), lambda shapes: shapes[name]), *args[1:]), kwargs)
        label = getattr(function, "__name__", str(function))
        prefix = f"{place}." if place else ""
        if function in OPERATIONS:
            inputs, sizes, run = call(function, args, kwargs)
            try:
                return self.emit(prefix + label, named(OPERATIONS[function], run, label), inputs, sizes)
            except InputError as error:
                raise InputError(f"operation {label!r} in {place or 'the model'}: {error}") from error
        if function in MASKING or not any(_carries(leaf) for leaf in tensors):
            inputs, sizes, run = call(function, args, kwargs)
            settings = {"non_negative": function in COMPARING, "zero": function in ZEROS}
            return self.emit(prefix + label.strip("_"), Primitive("mask", run, settings=settings), inputs, sizes)
        if label == "stochastic_depth":
            return args[0]
        if function not in FUNCTIONS:
            raise InputError(
                f"operation {label!r} in {place or 'the model'}: no rule is known for it; "
                + advice(_spelt(node), weights=False)
            )
        alone = place and not any(True for _ in self.model.get_submodule(place).children())
        try:
            return FUNCTIONS[function](Call(self, function, args, kwargs, prefix, place if alone else None))
        except InputError as error:
            raise InputError(f"{place or 'the model'}: {error}") from error

    def _of_constants(self, node: torch.fx.Node, function: Callable, args: tuple, kwargs: dict) -> Any:
        if node.op == "call_method":
            name = node.target

            def function(owner: Any, *rest: Any, **more: Any) -> Any:
                return getattr(owner, name)(*rest, **more)

        def unharmed(value: Any, *rest: Any, **more: Any) -> Any:
            return function(value.clone() if isinstance(value, Tensor) else value, *rest, **more)

        value = expression(unharmed if is_in_place(node) else function, tuple(args), dict(kwargs))
        label = next((self._label(leaf, "") for leaf in leaves(args) if id(leaf) in self._labels), None)
        if label is not None and isinstance(value, Tensor | Expression):
            self._labels[id(value)] = value, label  # an expanded class token is still called class_token
        return value

    def _attribute_of(self, owner: Output, name: str, place: str) -> Any:
        if name == "shape":
            return Expression((owner.name,), lambda shapes: shapes[owner.name])
        if name == "ndim":
            return Expression((owner.name,), lambda shapes: len(shapes[owner.name]))
        if name in ("device", "dtype", "is_cuda", "layout"):
            return Attribute(owner, name)
        if name in ("T", "mT"):
            primitive = rearrangement(lambda x: getattr(x, name), *(("transpose", -2, -1) if name == "mT" else ("t",)))
            return self.emit(f"{place}.{name}" if place else name, primitive, (owner,))
        raise InputError(f"{place or 'the model'}: no rule is known for the attribute {name!r} of a tensor")


_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


def _check_module(model: nn.Module) -> None:
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, not {name}")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"{name} is compiled code that cannot be traced; give the module that it was made of")
    if name in _WRAPPERS and hasattr(model, _WRAPPERS[name]):
        raise InputError(f"{name} wraps the model; give model.{_WRAPPERS[name]}")


def _check_shapes(model: nn.Module) -> None:
    lazy = next((path for path, value in (*model.named_parameters(), *model.named_buffers()) if is_lazy(value)), None)
    if lazy is not None:
        raise InputError(
            f"parameter {lazy!r} of {type(model).__name__} has no shape yet: run the model once on images of its size, "
            "then explain it"
        )


def _spelt(node: torch.fx.Node) -> str:
    """The function as one would type it, where its name tells."""
    if node.op == "call_method":
        return f"torch.Tensor.{node.target}"
    module = getattr(node.target, "__module__", None) or "_"
    module = "operator" if module == "_operator" else module
    return "function" if module.startswith("_") or "._" in module else f"{module}.{node.target.__name__}"


def _natural_size(model: nn.Module) -> tuple[int, ...]:
    """(C, H, W) of the images that a model is made for: as timm says, else 224 x 224."""
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    named = config.get("input_size") if isinstance(config, dict) else None
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return tuple(named) if named else (3 if first is None else first.in_channels, 224, 224)


def _example(model: nn.Module, size: tuple[int, ...]) -> Callable[[], Tensor]:
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return lambda: torch.zeros(1, *size, dtype=parameter.dtype, device=parameter.device)


@torch.no_grad()
def trace(model: nn.Module, size: tuple[int, ...] | None = None) -> Graph:
    """Trace a model of images, or of token ids, to its operations.

    The model takes one tensor; further arguments of its forward keep their defaults.

    Args:
        model: in any mode; it is traced as it is in evaluation.
        size: (C, H, W) of its images, for a model whose path depends on it.

    Raises:
        InputError: the model cannot be traced, or has an operation of unknown kind (the message names it).
    """
    _check_module(model)
    _check_shapes(model)
    root = structural_copy(model)
    refresh_weights(root)
    in_single_precision(root)
    followed = follow(root, _example(root, size or _natural_size(root)))
    live = live_nodes(root, followed)
    builder = _Builder(root, followed.places)
    try:
        return _graph_of(model, followed, builder, live, size)
    finally:
        vars(builder).clear()  # what it made refers to it: such cycles would keep the model when nobody else does


def _graph_of(
    model: nn.Module, followed: Followed, builder: _Builder, live: set[torch.fx.Node], size: tuple[int, ...] | None
) -> Graph:
    for node in followed.graph.nodes:
        if node.op == "placeholder":
            builder.values[node] = builder.emit("input", Primitive("input", lambda x: x), ())
        elif node.op == "output":
            result = torch.fx.map_arg(node.args[0], builder.values.__getitem__)
        elif node in live:
            builder.node(node)
    if not isinstance(result, Output):
        raise InputError(f"{type(model).__name__} must return one tensor, the logits; wrap it in a module that does")
    guards = tuple(
        Guard(condition.names, condition.evaluate, guard.value, guard.place)
        for guard in followed.guards
        if isinstance(condition := builder.values[guard.node], Expression)
    )
    needed = _ancestors(builder.operations, result.name, guards)
    merged = merged_biases(needed)
    natural = _natural_size(model)
    smaller = [(natural[0], side, side) for side in (64, 32)]
    sizes = [size or natural] if guards else list(dict.fromkeys((natural, *([size] if size else []), *smaller)))
    told = getattr(model, "last_feature_map", "")
    feature_map = told if isinstance(told, str) else ""
    graph = Graph(_ancestors(merged, merged[-1].name, guards), guards, sizes, feature_map)
    for operation in graph.operations[:-1]:
        if operation.kind == "log_softmax":
            raise InputError(f"operation {operation.name!r}: a log-softmax has a rule only where the model ends in it")
    if not any(operation.affine is not None for operation in graph):
        raise InputError(f"{type(model).__name__} has no convolution or linear layer to propagate through")
    return graph


def _ancestors(operations: Sequence[Operation], output: str, guards: tuple[Guard, ...]) -> tuple[Operation, ...]:
    """The operations that the output is made of, it the last, and those that guards ask about."""
    last = next(index for index, operation in enumerate(operations) if operation.name == output)
    needed = {operations[0].name, output, *(name for guard in guards for name in guard.names)}
    for operation in reversed(operations[: last + 1]):
        if operation.name in needed:
            needed.update(operation.inputs, operation.constants, operation.sizes)
    return tuple(operation for operation in operations[: last + 1] if operation.name in needed)
