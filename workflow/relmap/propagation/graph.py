"""A model as a flat list of primitive operations.

``trace(model)`` follows a model once with ``torch.fx`` and returns a ``Graph``: operations in order of execution, each
with the names of its inputs. An operation is named by its module's path (``features.28``, ``layer1.0.conv2``); a module
that is used again gets ``_1``, ``_2`` (torchvision's ``layer1.0.relu``), a function the path of the module it is called
in (``layer1.0.add``). The user's model is never changed: operations hold detached references to its parameters,
in-place ReLUs run out of place, dropout is left out and batch norms use their running statistics.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.propagation.affine import Affine, Convolution, Dense, Diagonal


@dataclass(frozen=True)
class Operation:
    """One primitive operation.

    Attributes:
        name: unique in its graph.
        kind: ``input``; ``parameter`` (a constant: class token, position embedding; no inputs) and ``mask`` (computed
            from the input by comparisons; neither carries relevance); ``embedding``; ``conv, linear, batch_norm,
            layer_norm``; ``relu, gelu``, ``activation`` (any other pointwise function), ``softmax``; ``max_pool``,
            ``average_pool`` (also a mean over dimensions); ``add, multiply``, ``matmul`` (bilinear in its two inputs,
            its scale included), ``scale`` (times a constant); ``concatenate``; ``reshape`` (any rearrangement that is
            linear in its one input: view, permute, slice, expand); ``identity``.
        inputs: names of the operations whose outputs it takes.
        affine: weight and bias of a conv, linear or batch norm, else None.
        run: the forward function of its inputs, and of the shapes of ``sizes`` after them.
        settings: what a rule must know beside the tensors: windows, dimensions; mean, std, gain and shift of a batch
            norm; normalized_shape, eps, weight and bias of a layer norm.
        sizes: names of the operations whose outputs' shapes ``run`` takes as further arguments.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    run: Callable[..., Tensor]
    affine: Affine | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()

    def forward(self, tensors: Sequence[Tensor], shapes: Mapping[str, torch.Size]) -> Tensor:
        """The output for these inputs, where ``shapes`` has the shapes of earlier operations' outputs by name."""
        return self.run(*tensors, *[shapes[name] for name in self.sizes])


# Kinds through which relevance does not travel: what their outputs hold is no part of the input.
CONSTANT_KINDS = frozenset({"parameter", "mask"})
_SIGN_KEEPING = frozenset(
    {"max_pool", "average_pool", "add", "concatenate", "reshape", "identity", "multiply", "matmul"}
)


@dataclass(frozen=True)
class Graph:
    """Operations in order of execution; the first is the input, the last one's output is the model's."""

    operations: tuple[Operation, ...]
    _folded: dict[str, tuple[Operation, str] | None] = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    @cached_property
    def _by_name(self) -> dict[str, Operation]:
        return {operation.name: operation for operation in self.operations}

    @cached_property
    def _consumers(self) -> dict[str, list[Operation]]:
        found: dict[str, list[Operation]] = {}
        for operation in self.operations:
            for name in dict.fromkeys(operation.inputs):
                found.setdefault(name, []).append(operation)
        return found

    def __getitem__(self, name: str) -> Operation:
        if name not in self._by_name:
            names = [operation.name for operation in self.operations if operation.kind != "input"]
            raise InputError(f"layer {name!r} does not exist in this model; it has: {', '.join(names)}")
        return self._by_name[name]

    @property
    def output(self) -> Operation:
        return self.operations[-1]

    def consumers(self, name: str) -> list[Operation]:
        return list(self._consumers.get(name, ()))

    def carriers(self) -> frozenset[str]:
        """Names of the operations that carry relevance: those that depend on the input through others that do.

        Parameters, what is made of them alone, and masks carry none.
        """
        names: set[str] = set()
        for operation in self.operations:
            if operation.kind == "input" or (
                operation.kind not in CONSTANT_KINDS and any(name in names for name in operation.inputs)
            ):
                names.add(operation.name)
        return frozenset(names)

    def folded(self, name: str) -> tuple[Operation, str] | None:
        """A convolution or linear layer and the batch norm after it as one operation, and the batch norm's name.

        ``g (W x + b - m) / s + c`` is one affine layer with weight ``g W / s``. None where the layer's only consumer is
        not a batch norm. Made once, so that the weights derived from the folded ones are made once too.
        """
        if name not in self._folded:
            self._folded[name] = self._fold(self[name])
        return self._folded[name]

    def _fold(self, operation: Operation) -> tuple[Operation, str] | None:
        users = self.consumers(operation.name)
        if operation.kind not in ("conv", "linear") or [user.kind for user in users] != ["batch_norm"]:
            return None
        affine = operation.affine.scaled(users[0].affine)
        return replace(operation, run=affine.forward, affine=affine), users[0].name

    def non_negative(self) -> frozenset[str]:
        """Names of operations whose outputs cannot be negative, whatever the input.

        Of pointwise functions and constants, ``settings["non_negative"]`` says so.
        """
        names: set[str] = set()
        for operation in self.operations:
            if (
                operation.kind in ("relu", "softmax")
                or operation.settings.get("non_negative", False)
                or (operation.kind in _SIGN_KEEPING and all(name in names for name in operation.inputs))
            ):
                names.add(operation.name)
        return frozenset(names)

    def first_affine(self) -> frozenset[str]:
        """Names of the convolutions and linear layers that see the model's input itself."""
        seen, first = {self.operations[0].name}, set()
        for operation in self.operations[1:]:
            if any(name in seen for name in operation.inputs):
                if operation.kind in ("conv", "linear"):
                    first.add(operation.name)
                elif operation.kind in ("reshape", "identity"):
                    seen.add(operation.name)
        return frozenset(first)

    def activation_of(self, layer: str) -> str:
        """Name of the operation that gives a layer's features.

        For a convolution or linear layer this is the ReLU that follows it (through a batch norm), for a block
        (``layer1.0``) its last operation.

        Raises:
            InputError: no operation or block has this name.
        """
        inside = [operation.name for operation in self.operations if operation.name.startswith(layer + ".")]
        if inside:
            return inside[-1]
        name = self[layer].name
        while True:
            users = self.consumers(name)
            if len(users) != 1 or users[0].kind not in ("batch_norm", "relu"):
                return name
            name = users[0].name
            if users[0].kind == "relu":
                return name


def _maximum_pool(kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False) -> tuple[Callable, dict]:
    stride = kernel_size if stride is None or stride == [] else stride
    window = {"kernel": kernel_size, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return (lambda x: F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)), window


def _average_pool(kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    stride = kernel_size if stride is None or stride == [] else stride
    return lambda x: F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _batch_norm_terms(module: nn.BatchNorm1d | nn.BatchNorm2d) -> dict[str, Tensor | None]:
    return {
        "mean": module.running_mean.clone(),
        "std": torch.sqrt(module.running_var + module.eps),
        "gain": None if module.weight is None else module.weight.detach(),
        "shift": None if module.bias is None else module.bias.detach(),
    }


class _Tracer(torch.fx.Tracer):
    """Remembers in which module a function is called, to name it."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[torch.fx.Node, str] = {}

    def create_node(self, *args, **kwargs) -> torch.fx.Node:
        node = super().create_node(*args, **kwargs)
        path = getattr(self, "module_stack", None)
        self.places[node] = next(reversed(path.values()))[0] if path else ""
        return node


def _operands(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes among a node's arguments in their order; one that is given twice counts twice."""
    found: list[torch.fx.Node] = []
    torch.fx.map_arg((node.args, node.kwargs), found.append)
    return found


class _Builder:
    """Turns fx nodes into operations."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.operations: list[Operation] = []
        self.names: dict[torch.fx.Node, str] = {}

    def unique(self, name: str) -> str:
        taken = {operation.name for operation in self.operations}
        candidates = (name if i == 0 else f"{name}_{i}" for i in range(len(taken) + 1))
        return next(candidate for candidate in candidates if candidate not in taken)

    def add(self, node: torch.fx.Node, name: str, kind: str, run: Callable, **more: Any) -> None:
        name = self.unique(name)
        inputs = tuple(self.names[operand] for operand in _operands(node)) if kind != "input" else ()
        self.operations.append(Operation(name, kind, inputs, run, **more))
        self.names[node] = name

    def skip(self, node: torch.fx.Node) -> None:
        self.names[node] = self.names[node.all_input_nodes[0]]

    def module(self, node: torch.fx.Node) -> None:
        module, name = self.model.get_submodule(node.target), str(node.target)
        match module:
            case nn.Conv2d():
                if module.padding_mode != "zeros" or isinstance(module.padding, str):
                    raise InputError(f"layer {name!r}: only numeric zero padding is supported, not {module.padding!r}")
                affine = Convolution.of(module)
                self.add(node, name, "conv", affine.forward, affine=affine)
            case nn.Linear():
                affine = Dense.of(module)
                self.add(node, name, "linear", affine.forward, affine=affine)
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                affine = Diagonal.of(module)
                self.add(node, name, "batch_norm", affine.forward, affine=affine, settings=_batch_norm_terms(module))
            case nn.ReLU():
                self.add(node, name, "relu", F.relu)
            case nn.MaxPool2d():
                run, settings = _maximum_pool(
                    module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode
                )
                self.add(node, name, "max_pool", run, settings=settings)
            case nn.AvgPool2d():
                run = _average_pool(
                    module.kernel_size,
                    module.stride,
                    module.padding,
                    module.ceil_mode,
                    module.count_include_pad,
                    module.divisor_override,
                )
                self.add(node, name, "average_pool", run)
            case nn.AdaptiveAvgPool2d():
                size = module.output_size
                self.add(node, name, "average_pool", lambda x: F.adaptive_avg_pool2d(x, size))
            case nn.Flatten():
                start, end = module.start_dim, module.end_dim
                self.add(node, name, "reshape", lambda x: x.flatten(start, end))
            case nn.Dropout() | nn.Dropout2d() | nn.Identity():
                self.skip(node)
            case _:
                raise InputError(
                    f"layer {name!r}: no rule is known for {type(module).__name__}; "
                    "add its operation to relmap/propagation/graph.py and a rule for its kind"
                )

    def function(self, node: torch.fx.Node, place: str) -> None:
        def named(label: str) -> str:
            return f"{place}.{label}" if place else label

        args, kwargs = node.args, node.kwargs
        target = getattr(torch.Tensor, node.target) if node.op == "call_method" else node.target
        if target in (operator.add, operator.iadd, torch.add, torch.Tensor.add, torch.Tensor.add_):
            if len(_operands(node)) != 2 or kwargs:
                raise InputError(f"operation {node.name!r}: only the sum of two tensors is supported")
            self.add(node, named("add"), "add", torch.add)
        elif target in (torch.cat, torch.concat):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
            self.add(node, named("cat"), "concatenate", lambda *x: torch.cat(x, dim), settings={"dim": dim})
        elif target in (torch.flatten, torch.Tensor.flatten):
            rest = args[1:]
            self.add(node, named("flatten"), "reshape", lambda x: torch.flatten(x, *rest, **kwargs))
        elif target in (F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_):
            self.add(node, named("relu"), "relu", F.relu)
        elif target is F.adaptive_avg_pool2d:
            size = kwargs.get("output_size", args[1] if len(args) > 1 else None)
            self.add(node, named("avgpool"), "average_pool", lambda x: F.adaptive_avg_pool2d(x, size))
        elif target is F.avg_pool2d:
            run = _average_pool(*args[1:], **kwargs)
            self.add(node, named("avgpool"), "average_pool", run)
        elif target in (F.max_pool2d, torch.max_pool2d):
            run, settings = _maximum_pool(*args[1:], **{k: v for k, v in kwargs.items() if k != "return_indices"})
            self.add(node, named("max_pool"), "max_pool", run, settings=settings)
        elif target is F.dropout:
            self.skip(node)
        else:
            label = getattr(target, "__name__", str(target))
            raise InputError(
                f"operation {label!r} in {place or 'the model'}: no rule is known for it; "
                "add it to relmap/propagation/graph.py and a rule for its kind"
            )


def trace(model: nn.Module) -> Graph:
    """Trace a model of images to its operations.

    Raises:
        InputError: the model cannot be traced, or has an operation of unknown kind (the message names it).
    """
    tracer = _Tracer()
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()  # a network in training mode takes other paths: auxiliary heads, stochastic depth
        traced = torch.fx.GraphModule(model, tracer.trace(model))
    except (torch.fx.proxy.TraceError, TypeError) as error:
        raise InputError(f"{type(model).__name__} cannot be traced by torch.fx: {error}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    traced.graph.eliminate_dead_code()
    builder = _Builder(model)
    with torch.no_grad():
        for node in traced.graph.nodes:
            if node.op == "placeholder":
                builder.add(node, "input", "input", lambda x: x)
            elif node.op == "call_module":
                builder.module(node)
            elif node.op in ("call_function", "call_method"):
                builder.function(node, tracer.places.get(node, ""))
            elif node.op == "get_attr":
                raise InputError(f"parameter {node.target!r} is used outside a layer; no rule is known for that")
    graph = Graph(tuple(builder.operations))
    if not any(operation.affine is not None for operation in graph):
        raise InputError(f"{type(model).__name__} has no convolution or linear layer to propagate through")
    return graph


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold each batch norm into the convolution or linear layer before it, where that is its only consumer.

    ``g (W x + b - m) / s + c`` is one affine layer with weight ``g W / s``. Batch norms that follow something else
    stay. The new operation carries the convolution's name.
    """
    renamed: dict[str, str] = {}
    folded: dict[str, Operation] = {}
    for operation in graph:
        if operation.kind != "batch_norm":
            continue
        before = graph[operation.inputs[0]]
        if before.kind in ("conv", "linear") and len(graph.consumers(before.name)) == 1:
            affine = before.affine.scaled(operation.affine)
            folded[before.name] = Operation(before.name, before.kind, before.inputs, affine.forward, affine)
            renamed[operation.name] = before.name
    operations = []
    for operation in graph:
        if operation.name in renamed:
            continue
        operation = folded.get(operation.name, operation)
        inputs = tuple(renamed.get(name, name) for name in operation.inputs)
        operations.append(
            Operation(operation.name, operation.kind, inputs, operation.run, operation.affine, operation.settings)
        )
    return Graph(tuple(operations))
