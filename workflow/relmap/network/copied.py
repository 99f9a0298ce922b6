"""A model's structure, copied, with its parameters shared: what may be changed freely while the model is in use.

Tracing needs modules whose calls it can catch, in evaluation mode. Torch's own tracer patches ``nn.Module`` for all
threads and switches the model's mode; here both happen to a copy that nobody else has.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

LOW_PRECISION = (torch.float16, torch.bfloat16)
"""Types whose rounding leaves no digits for relevance; what has them is computed in float32."""

_CALL = "_compiled_call_impl"  # torch looks here, on the instance, before it runs a module's forward
_REFRESHING = (WeightNorm, SpectralNorm, BasePruningMethod)


def structural_copy(model: nn.Module) -> nn.Module:
    """The same modules in evaluation mode, with the model's own parameters, buffers and hooks.

    Lists, dictionaries and bound methods among their attributes refer to the copies. What ``torch.compile`` made is
    left out. Scripted modules are not copied.
    """
    originals = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    copies: dict[int, Any] = {id(module): type(module).__new__(type(module)) for module in originals}
    for module in originals:
        attributes = {name: _renewed(value, copies) for name, value in module.__dict__.items()}
        copies[id(module)].__dict__.update(attributes | {"training": False, _CALL: None})
    return copies[id(model)]


def _renewed(value: Any, copies: dict[int, Any]) -> Any:
    """An attribute in which copies stand for the modules, and copies of containers for the containers."""
    if id(value) in copies:
        return copies[id(value)]
    if isinstance(value, MethodType) and id(value.__self__) in copies:
        return MethodType(value.__func__, copies[id(value.__self__)])
    if type(value) is partial:
        return partial(
            *(_renewed(part, copies) for part in (value.func, *value.args)),
            **{key: _renewed(part, copies) for key, part in value.keywords.items()},
        )
    if type(value) is tuple:
        return tuple(_renewed(part, copies) for part in value)
    if type(value) is list or isinstance(value, dict):
        copies[id(value)] = renewed = copy.copy(value)  # before its parts: it may contain itself
        for key, part in enumerate(value) if type(value) is list else value.items():
            renewed[key] = _renewed(part, copies)
        return renewed
    return value


def refresh_weights(model: nn.Module) -> None:
    """Compute the weights that hooks make before a forward: those of weight norm, spectral norm and pruning."""
    for module in model.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, _REFRESHING):
                hook(module, None)


def in_single_precision(model: nn.Module) -> None:
    """Replace half-precision parameters and buffers of a structural copy by float32 ones."""
    for module in model.modules():
        for table in (module._parameters, module._buffers, module.__dict__):
            for name, value in table.items():
                if isinstance(value, Tensor) and value.dtype in LOW_PRECISION:
                    table[name] = _single(value)


def _single(value: Tensor) -> Tensor:
    single = value.detach().float()
    return nn.Parameter(single, requires_grad=False) if isinstance(value, nn.Parameter) else single


def catch_calls(model: nn.Module, caught: Callable[..., Any]) -> None:
    """Let every call of a structural copy's module be ``caught(module, *args, **kwargs)``."""
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.__dict__[_CALL] = partial(caught, module)


def release_calls(model: nn.Module) -> None:
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.__dict__[_CALL] = None
