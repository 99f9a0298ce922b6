"""A model's calls, followed once with ``torch.fx`` as it makes them in evaluation mode, on a copy of its structure.

Neither the model nor any class is changed on the way, so that other threads may run or trace whatever they like. Where
a model asks for a number that depends on the shapes of its tensors (a branch, a loop, an index), the answer is that of
an example input, and becomes a ``Guard``: the graph holds for inputs that give the same answer.
"""

from __future__ import annotations

import dis
import inspect
import linecache
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from relmap.errors import InputError
from relmap.network.attention import STAND_INS, is_fused_attention
from relmap.network.copied import catch_calls, release_calls
from relmap.network.functions import SHAPE_METHODS
from relmap.network.vocabulary import is_known, is_omitted, is_transparent

_IN_PLACE_OPERATORS = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem})
_SHAPE_ATTRIBUTES = frozenset({"shape", "ndim", "device", "dtype", "is_cuda", "layout"})
_SHAPE_METHODS = frozenset(function.__name__ for function in SHAPE_METHODS)


@dataclass(frozen=True)
class Guard:
    """A number that the model asked for: the node that gives it, its value, and where in the model's code it was."""

    node: torch.fx.Node
    value: Any
    place: str


@dataclass(frozen=True)
class Followed:
    """What following a model gave.

    Attributes:
        graph: its calls. places: in which module each is made.
        guards: what must hold for the graph to be the model's.
    """

    graph: torch.fx.Graph
    places: dict[torch.fx.Node, str]
    guards: tuple[Guard, ...]


def _count(node: torch.fx.Node) -> int | None:
    """How many values a slice has, where its bounds tell."""
    match node.args[1] if node.target is operator.getitem else None:
        case slice(start=start, stop=int(stop), step=None) if stop >= 0 and (start is None or start >= 0):
            return stop - (start or 0)
    return None


def _unpacked_to(frame: FrameType) -> int | None:
    """How many names what is iterated here is unpacked to, as in ``n, c, h, w = x.shape``."""
    instruction = next(each for each in dis.get_instructions(frame.f_code) if each.offset == frame.f_lasti)
    return instruction.argval if instruction.opname == "UNPACK_SEQUENCE" else None


class _Proxy(torch.fx.Proxy):
    """Can also be unpacked in ``x.view(*x.shape[:2], -1)``, and is a number where one is asked for."""

    def __getattr__(self, name: str) -> torch.fx.Proxy:
        return _Attribute(self, name)

    def __iter__(self) -> Iterator[torch.fx.Proxy]:
        # Torch's own way keeps its frame in a cycle, and with it whatever its callers hold, the model among them.
        count = _unpacked_to(sys._getframe(1))
        return self.tracer.iter(self) if count is None else iter([self[i] for i in range(count)])

    def __len__(self) -> int:
        count = _count(self.node)
        if count is None:
            count = self.tracer.answer(self.tracer.create_proxy("call_function", len, (self,), {}).node)
        return count

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __index__(self) -> int:
        return operator.index(self.tracer.answer(self.node))

    def __int__(self) -> int:
        return int(self.tracer.answer(self.node))

    def __float__(self) -> float:
        return float(self.tracer.answer(self.node))

    def __round__(self, digits: int | None = None) -> float:
        return round(self.tracer.answer(self.node), digits)

    def __ceil__(self) -> int:
        return math.ceil(self.tracer.answer(self.node))

    def __floor__(self) -> int:
        return math.floor(self.tracer.answer(self.node))


class _Attribute(torch.fx.proxy.Attribute, _Proxy):
    """``x.shape``, before anything is asked of it."""


_FACTORIES = frozenset({torch.zeros, torch.ones, torch.full, torch.empty, torch.arange, torch.linspace, torch.eye})


class _Factories(TorchFunctionMode):
    """``torch.zeros((n, 3))`` of a size ``n`` that is not known yet is a call of the trace, too; in this thread alone.

    The numbers that torch asks of such sizes on the way become no guards.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in _FACTORIES:
            sizes: list[torch.fx.Node] = []
            torch.fx.node.map_aggregate((args, kwargs), lambda v: isinstance(v, _Proxy) and sizes.append(v.node))
            if sizes:
                self.tracer.guards = [guard for guard in self.tracer.guards if guard.node not in sizes]
                return self.tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)


class Tracer(torch.fx.Tracer):
    """Stops at modules that are one operation, and remembers in which module a function is called.

    ``root`` is a structural copy; ``example`` gives an input for questions about shapes.
    """

    def __init__(self, root: nn.Module, example: Callable[[], Tensor]) -> None:
        super().__init__(autowrap_modules=())
        self.root, self.example = root, example
        self.graph = torch.fx.Graph()
        self.submodule_paths = {module: path for path, module in root.named_modules()}
        self.tensor_attrs = {
            value: f"{path}.{name}" if path else name
            for path, module in root.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, Tensor)
        }
        self.places: dict[torch.fx.Node, str] = {}
        self.guards: list[Guard] = []
        self._values: dict[torch.fx.Node, Any] = {}
        self._depends: dict[torch.fx.Node, int] = {}
        self._stand_ins: dict[nn.Module, dict[str, torch.fx.Proxy]] = {}  # for each module's own parameters

    def follow(self) -> Followed:
        """Run the root's forward on what stands for its input."""
        root = self.root
        x = self.create_proxy("placeholder", "input", (), {})
        try:
            for path, module in root.named_modules():
                names = [name for name, value in module._parameters.items() if value is not None]
                targets = [f"{path}.{name}" if path else name for name in names]
                proxies = [self.create_proxy("get_attr", target, (), {}) for target in targets]
                self._stand_ins[module] = dict(zip(names, proxies, strict=True))
                module.__dict__.update(self._stand_ins[module])
            catch_calls(root, self._called)
            forward = partial(STAND_INS[type(root)], root) if type(root) in STAND_INS else root.forward
            with _Factories(self):
                result = forward(x)
            self.create_node("output", "output", (self.create_arg(result),), {})
        finally:
            self._values.clear()
            release_calls(root)
            for module, names in self._stand_ins.items():
                _remove(module, names)
            self._stand_ins.clear()
            self.tensor_attrs.clear()
            self.root = self.submodule_paths = None  # torch.fx leaves tracers in cycles
        return Followed(self.graph, self.places, tuple(self.guards))

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        known = is_known(module) or is_omitted(module) or is_fused_attention(module)
        followed = type(module) in STAND_INS or is_transparent(module)
        return known or (not followed and super().is_leaf_module(module, path))

    def _called(self, module: nn.Module, *args, **kwargs) -> Any:
        forward = partial(STAND_INS[type(module)], module) if type(module) in STAND_INS else module.forward
        return self.call_module(module, forward, args, kwargs)  # without the user's hooks

    def to_bool(self, proxy: torch.fx.Proxy) -> bool:
        return bool(self.answer(proxy.node))

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        # Parameters of modules that are no part of the model are constants like other tensors.
        foreign = isinstance(a, nn.Parameter) and all(a is not own for own in self.root.parameters())
        return super().create_arg(a.detach() if foreign else a)

    def iter(self, proxy: torch.fx.Proxy) -> Iterator[torch.fx.Proxy]:
        return iter([proxy[i] for i in range(len(proxy))])

    def create_node(self, *args, **kwargs) -> torch.fx.Node:
        node = super().create_node(*args, **kwargs)
        path = getattr(self, "module_stack", None)
        self.places[node] = next(reversed(path.values()))[0] if path else ""
        self._depends[node] = _dependence(node, self._depends)
        return node

    def answer(self, node: torch.fx.Node) -> Any:
        """The value of what depends on shapes and constants alone, by the example; it becomes a guard.

        Raises:
            InputError: it depends on more.
        """
        place = _place()
        if self._depends[node] == _ON_VALUES:
            if node.target is len:
                raise InputError(f"the model asks for len() of a tensor, in {place}; write x.shape[0] for len(x)")
            raise InputError(
                f"the model branches on what depends on its input, in {place}; give a module whose forward takes one "
                "path"
            )
        try:
            value = self._evaluated(node)
        except Exception as error:
            raise InputError(
                f"the model asks for the shape of a tensor, in {place}, and no example tells it: {error}; name the "
                "size of its images, Propagator(model, size=(channels, height, width))"
            ) from error
        if self._depends[node] == _ON_SHAPES:
            self.guards.append(Guard(node, value, place))
        return value

    @torch.no_grad()
    def _evaluated(self, node: torch.fx.Node) -> Any:
        waiting = [node]
        while waiting:
            missing = [other for other in waiting[-1].all_input_nodes if other not in self._values]
            if missing:
                waiting.extend(missing)
                continue
            node = waiting.pop()
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
            if is_in_place(node) and isinstance(args[0], Tensor):
                args = (args[0].clone(), *args[1:])
            self._values[node] = self._run(node, args, kwargs)
        return self._values[node]

    def _run(self, node: torch.fx.Node, args: tuple, kwargs: dict) -> Any:
        match node.op:
            case "placeholder":
                return self.example()
            case "get_attr":
                return attribute(self.root, str(node.target))
            case "call_module":
                return self._run_module(self.root.get_submodule(str(node.target)), args, kwargs)
            case "call_method":
                return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    def _run_module(self, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        """The forward of a module that is one operation, with its parameters themselves."""
        inside = [(each, self._stand_ins[each]) for each in module.modules()]
        release_calls(module)
        for each, names in inside:
            _remove(each, names)
        try:
            return module.forward(*args, **kwargs)
        finally:
            for each, names in inside:
                each.__dict__.update(names)
            catch_calls(module, self._called)


def _remove(module: nn.Module, names: Mapping[str, Any]) -> None:
    for name in names:
        module.__dict__.pop(name, None)


def attribute(root: nn.Module, path: str) -> Any:
    """A parameter, buffer or other attribute by its path; a parameter even where something stands in for it."""
    *modules, name = path.split(".")
    for part in modules:
        root = getattr(root, part)
    parameter = root._parameters.get(name) if isinstance(root, nn.Module) else None
    return getattr(root, name) if parameter is None else parameter


_ON_NOTHING, _ON_SHAPES, _ON_VALUES = range(3)


def _dependence(node: torch.fx.Node, known: Mapping[torch.fx.Node, int]) -> int:
    """On what of the model's input a node's value depends."""
    of_inputs = max((known[other] for other in node.all_input_nodes), default=_ON_NOTHING)
    if node.op == "placeholder":
        return _ON_VALUES
    asks = (node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES) or (
        node.op == "call_method" and node.target in _SHAPE_METHODS
    )
    return min(of_inputs, _ON_SHAPES) if asks else of_inputs


def _place() -> str:
    """Where in the model's code we are, in words."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename in (__file__, torch.fx.proxy.__file__) and frame.f_back is not None:
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(file).name}, line {line}: {linecache.getline(file, line).strip()!r}"


def is_in_place(node: torch.fx.Node) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return (
        node.target in _IN_PLACE_OPERATORS
        or (name.endswith("_") and not name.endswith("__"))
        or node.kwargs.get("inplace") is True
    )


def changed_in_place(model: nn.Module, node: torch.fx.Node) -> torch.fx.Node | None:
    """The node whose value this one overwrites: later readers of that one see this one's result."""
    if node.op == "call_module":
        in_place = getattr(model.get_submodule(str(node.target)), "inplace", False) is True
    else:
        in_place = is_in_place(node)
    return node.args[0] if in_place and node.args and isinstance(node.args[0], torch.fx.Node) else None


def overwritten(model: nn.Module, node: torch.fx.Node) -> list[torch.fx.Node]:
    """``changed_in_place`` and, where that is a part ``y = x[...]``, what it is a part of."""
    found = []
    changed = changed_in_place(model, node)
    while isinstance(changed, torch.fx.Node):
        found.append(changed)
        changed = changed.args[0] if changed.target is operator.getitem else None
    return found


def live_nodes(model: nn.Module, followed: Followed) -> set[torch.fx.Node]:
    """The nodes that the output depends on, or a guard: other heads, assertions and comparisons are not among them."""
    live: set[torch.fx.Node] = {guard.node for guard in followed.guards}
    for node in reversed(followed.graph.nodes):
        if node.op == "output" or node in live or not live.isdisjoint(overwritten(model, node)):
            live.update((node, *node.all_input_nodes))
    return live


def follow(root: nn.Module, example: Callable[[], Tensor]) -> Followed:
    """The calls of a structural copy, as it makes them in evaluation mode."""
    parameters = list(inspect.signature(root.forward).parameters.values())
    first = parameters[0] if parameters else None
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise InputError(f"{type(root).__name__}: its forward must name the tensor that it takes, not {first}")
    for other in parameters[1:]:
        if other.default is other.empty and other.kind not in (other.VAR_POSITIONAL, other.VAR_KEYWORD):
            raise InputError(f"{type(root).__name__} takes several inputs: {other.name!r} has no default")
    try:
        return Tracer(root, example).follow()
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{type(root).__name__} cannot be traced by torch.fx: {error}") from error
