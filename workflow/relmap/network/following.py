"""A model's calls, followed once with ``torch.fx`` as it makes them in evaluation mode, without changing it."""

from __future__ import annotations

import inspect
import operator
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
import torch.fx
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from relmap.errors import InputError
from relmap.network.attention import STAND_INS, is_fused_attention
from relmap.network.vocabulary import OPERATIONS, is_known, is_omitted, is_transparent

_IN_PLACE_OPERATORS = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem})


def _count(node: torch.fx.Node) -> int | None:
    """How many values a slice has, where its bounds tell."""
    match node.args[1] if node.target is operator.getitem else None:
        case slice(start=start, stop=int(stop), step=None) if stop >= 0 and (start is None or start >= 0):
            return stop - (start or 0)
    return None


class _Proxy(torch.fx.Proxy):
    """Can also be unpacked in ``x.view(*x.shape[:2], -1)``, where the number of values is known, and counted by."""

    def __index__(self) -> int:
        return self.tracer.number(self)

    __int__ = __index__

    def __len__(self) -> int:
        count = _count(self.node)
        return super().__len__() if count is None else count

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


FACTORIES = frozenset({torch.zeros, torch.ones, torch.full, torch.empty, torch.arange, torch.linspace, torch.eye})


class _Factories(TorchFunctionMode):
    """``torch.zeros((n, 3))`` of a size ``n`` that is not known yet is a call of the trace, too; in this thread alone.

    The numbers that torch asks of such sizes on the way are not assumed.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in FACTORIES:
            sizes: list[torch.fx.Node] = []
            torch.fx.node.map_aggregate((args, kwargs), lambda v: isinstance(v, _Proxy) and sizes.append(v.node))
            if sizes:
                self.tracer.forget(sizes)
                return self.tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)


class Tracer(torch.fx.Tracer):
    """Stops at modules that are one operation, and remembers in which module a function is called."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.places: dict[torch.fx.Node, str] = {}
        self.assumed: list[tuple[torch.fx.Node, Any, str]] = []
        self.examples = Examples(size)
        self._trying = False  # whether values are tried out, which is no part of the trace

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        known = is_known(module) or is_omitted(module) or is_fused_attention(module)
        followed = type(module) in STAND_INS or is_transparent(module)
        return known or (not followed and super().is_leaf_module(module, path))

    def getattr(self, name: str, value: Any, parameters: dict[str, Any]) -> Any:
        return value if self._trying else super().getattr(name, value, parameters)

    def call_module(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        if self._trying:
            return forward(*args, **kwargs)
        try:
            self.path_of_module(module)
        except NameError:
            if self.is_leaf_module(module, ""):
                raise InputError(f"a {type(module).__name__} is called that is no part of the model") from None
            return module.forward(*args, **kwargs)  # made on the way, such as a slice of a Sequential
        if type(module) in STAND_INS:
            return super().call_module(module, partial(STAND_INS[type(module)], module), args, kwargs)
        return super().call_module(module, module.forward, args, kwargs)  # without the user's hooks

    def to_bool(self, proxy: torch.fx.Proxy) -> bool:
        return self._assume(proxy, bool)

    def forget(self, nodes: list[torch.fx.Node]) -> None:
        """Takes back that the numbers of these nodes were asked for."""
        self.assumed = [each for each in self.assumed if each[0].args[0] not in nodes]

    def number(self, proxy: torch.fx.Proxy) -> int:
        return self._assume(proxy, int)

    def _assume(self, proxy: torch.fx.Proxy, kind: type) -> Any:
        """What a value that depends on sizes alone is at the images' size; ``assumed`` remembers it."""
        ours = (__file__, torch.fx.proxy.__file__)
        frame = next(frame for frame in reversed(traceback.extract_stack()) if frame.filename not in ours)
        where = f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line!r}"
        self._trying = True
        try:
            value = self.examples.number(self.root, proxy.node)
        finally:
            self._trying = False
        if value is None:
            raise InputError(
                f"the model branches on what depends on its input, in {where}; give a module whose forward takes one "
                "path"
            )
        value = kind(value)
        self.assumed.append((self.create_node("call_function", kind, (proxy.node,), {}), value, where))
        return value

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def iter(self, proxy: torch.fx.Proxy) -> Iterator[torch.fx.Proxy]:
        count = _count(proxy.node)
        return super().iter(proxy) if count is None else iter([proxy[i] for i in range(count)])

    def create_proxy(self, kind: str, target: Any, args: tuple, kwargs: dict, *more: Any, **options: Any) -> Any:
        # What a library keeps out of its own traces (torchvision's shifted windows) is followed here all the same.
        if kind == "call_function" and isinstance(target, FunctionType) and not _is_torchs(target):
            return target(*args, **kwargs)
        return super().create_proxy(kind, target, args, kwargs, *more, **options)

    def create_node(self, *args, **kwargs) -> torch.fx.Node:
        node = super().create_node(*args, **kwargs)
        path = getattr(self, "module_stack", None)
        self.places[node] = next(reversed(path.values()))[0] if path else ""
        return node


def _is_torchs(function: FunctionType) -> bool:
    return function in OPERATIONS or function.__module__.partition(".")[0] in ("torch", "_operator", "math")


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


def live_nodes(model: nn.Module, graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """The nodes that the output depends on: other heads, assertions and their comparisons are not among them."""
    live: set[torch.fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in live or not live.isdisjoint(overwritten(model, node)):
            live.update((node, *node.all_input_nodes))
    return live


def image_size(model: nn.Module) -> tuple[int, ...]:
    """(C, H, W) of the images that a model was made for: timm's models say so; 224 x 224 of the others."""
    for name in ("pretrained_cfg", "default_cfg"):
        size = (getattr(model, name, None) or {}).get("input_size")
        if size is not None:
            return tuple(size)
    convolution = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return (3 if convolution is None else convolution.in_channels, 224, 224)


class Examples:
    """Values of nodes for one image of a size, as far as they are sizes: found when asked for, without arithmetic."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = size
        self.values: dict[torch.fx.Node, Any] = {}
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def number(self, model: nn.Module, node: torch.fx.Node) -> float | bool | None:
        """A node's value where that is a number, else None."""
        try:
            with self.mode, torch.no_grad():
                for each in node.graph.nodes:
                    if each not in self.values:
                        self.values[each] = self._value(model, each)
                    if each is node:
                        break
        except Exception:  # whatever a model's code raises on values without numbers
            return None
        value = self.values[node]
        return value if isinstance(value, int | float | bool) else None

    def _value(self, model: nn.Module, node: torch.fx.Node) -> Any:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        match node.op:
            case "placeholder":
                dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
                return torch.empty(1, *self.size, dtype=dtype) if not self.values else node.args[0]
            case "get_attr":
                return attribute(model, str(node.target))
            case "call_module":
                return model.get_submodule(str(node.target)).forward(*args, **kwargs)
            case "call_method":
                return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)


def attribute(model: nn.Module, path: str) -> Any:
    value: Any = model
    for name in path.split("."):
        value = getattr(value, name)
    return value


def follow(model: nn.Module, tracer: Tracer) -> torch.fx.Graph:
    """The model's calls, as it makes them in evaluation mode."""
    first, *others = inspect.signature(model.forward).parameters.values()
    if first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise InputError(f"{type(model).__name__}: its forward must name the tensor that it takes, not {first}")
    defaults = {
        each.name: each.default
        for each in others
        if each.default is not each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False  # in training mode it takes other paths: auxiliary heads, stochastic depth
        with _Factories(tracer):
            return tracer.trace(model, concrete_args=defaults or None)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise InputError(f"{type(model).__name__} cannot be traced by torch.fx: {error}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
