"""A model's calls, followed once with ``torch.fx`` as it makes them in evaluation mode, without changing it."""

from __future__ import annotations

import dis
import inspect
import operator
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.fx
from torch import nn

from relmap.errors import InputError
from relmap.network.attention import STAND_INS, is_fused_attention
from relmap.network.vocabulary import is_known, is_omitted

_IN_PLACE_OPERATORS = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem})


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


class _Unpackable(torch.fx.Proxy):
    """torch's own way keeps its frame in a cycle, and with it whatever its callers hold: the model among them."""

    def __iter__(self) -> Iterator[torch.fx.Proxy]:
        count = _unpacked_to(sys._getframe(1))
        return self.tracer.iter(self) if count is None else iter([self[i] for i in range(count)])

    def __getattr__(self, name: str) -> torch.fx.Proxy:
        return _Attribute(self, name)


class _Attribute(_Unpackable, torch.fx.proxy.Attribute):
    """``x.shape``, before anything is asked of it."""


class _Proxy(_Unpackable):
    """Can also be unpacked in ``x.view(*x.shape[:2], -1)``, where the number of values is known."""

    def __len__(self) -> int:
        count = _count(self.node)
        return super().__len__() if count is None else count


class Tracer(torch.fx.Tracer):
    """Stops at modules that are one operation, and remembers in which module a function is called."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[torch.fx.Node, str] = {}

    def let_go(self) -> None:
        """Forget the model: torch.fx leaves tracers in reference cycles, which would keep all of its tensors."""
        getattr(self, "tensor_attrs", {}).clear()
        self.root = self.submodule_paths = None

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        known = is_known(module) or is_omitted(module) or is_fused_attention(module)
        return known or (type(module) not in STAND_INS and super().is_leaf_module(module, path))

    def call_module(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
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
        ours = (__file__, torch.fx.proxy.__file__)
        frame = next(frame for frame in reversed(traceback.extract_stack()) if frame.filename not in ours)
        raise InputError(
            f"the model branches on what depends on its input, in {Path(frame.filename).name}, line {frame.lineno}: "
            f"{frame.line!r}; give a module whose forward takes one path"
        )

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def iter(self, proxy: torch.fx.Proxy) -> Iterator[torch.fx.Proxy]:
        count = _count(proxy.node)
        return super().iter(proxy) if count is None else iter([proxy[i] for i in range(count)])

    def create_node(self, *args, **kwargs) -> torch.fx.Node:
        node = super().create_node(*args, **kwargs)
        path = getattr(self, "module_stack", None)
        self.places[node] = next(reversed(path.values()))[0] if path else ""
        return node


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


def live_nodes(model: nn.Module, graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """The nodes that the output depends on: other heads, assertions and their comparisons are not among them."""
    live: set[torch.fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in live or changed_in_place(model, node) in live:
            live.update((node, *node.all_input_nodes))
    return live


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
        return tracer.trace(model, concrete_args=defaults or None)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise InputError(f"{type(model).__name__} cannot be traced by torch.fx: {error}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
