"""Whether a graph still is the model that it was traced from.

Three questions, from the cheapest: whether the model's tensors are those that were traced (``Fingerprint.tensors`` and
``values``); whether anything else of it has changed (``structure``); and whether it gives the graph's output
(``differing``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from relmap.errors import InputError
from relmap.network.copied import LOW_PRECISION, catch_calls, structural_copy
from relmap.network.graph import Graph

_WHOLE = 2**12
_BLOCK, _OF_BLOCK = 1021, 4  # a prime, so that the samples wander over rows and columns


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether a model has changed.

    Attributes:
        tensors: address and version of each parameter and buffer; inference tensors keep no version.
        values: a sum over their bits, each with a weight of its own. Of tensors of more than 4,096 numbers 4 of every
            1,021 count, and one of each row and column, though not every single weight.
        structure: modules, their classes, hooks, and attributes that are numbers, text or tensors.
    """

    tensors: tuple[tuple[int, int], ...]
    values: int
    structure: tuple[Any, ...]


def fingerprint(model: nn.Module) -> Fingerprint:
    tensors = [t for t in (*model.parameters(), *model.buffers()) if not is_lazy(t) and t.device.type != "meta"]
    return Fingerprint(tuple(map(_state, tensors)), _sum_of_bits(tensors), tuple(_structure(model)))


def _state(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


_PLAIN = frozenset({bool, int, float, str, type(None)})


def _structure(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        attributes = module.__dict__
        hooks = (*attributes["_forward_pre_hooks"], *attributes["_forward_hooks"])
        plain = tuple(
            (name, value if type(value) in _PLAIN else _state(value))
            for name, value in attributes.items()
            if (type(value) in _PLAIN and name != "training") or isinstance(value, Tensor)
        )
        yield id(module), type(module), id(attributes.get("forward")), hooks, plain


@torch.no_grad()
def _sum_of_bits(tensors: list[Tensor]) -> int:
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.layout == torch.strided and tensor.numel():
            groups.setdefault((tensor.device, tensor.dtype), []).extend(_sampled(tensor.detach()))
    return sum(int(_weighted(torch.cat(parts))) for parts in groups.values())


def _sampled(tensor: Tensor) -> list[Tensor]:
    if tensor.is_contiguous() and tensor.numel() <= _WHOLE:
        return [tensor.view(-1)]
    dense = tensor.numel() == 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    flat = torch.as_strided(tensor, (tensor.numel(),), (1,)) if dense else tensor.reshape(-1)
    if flat.numel() <= _WHOLE:
        return [flat]
    rows = flat.numel() // _BLOCK
    spread = flat[: rows * _BLOCK].view(rows, _BLOCK)[:, :_OF_BLOCK].reshape(-1)
    return [spread, flat[rows * _BLOCK :], *_of_each_line(tensor)]


def _of_each_line(tensor: Tensor) -> list[Tensor]:
    """One value of each row and of each column of a matrix whose rows are what the first dimension counts.

    They are views of the column and the row in the middle, whatever the order in memory.
    """
    if tensor.dim() < 2:
        return []
    middle = [size // 2 for size in tensor.shape]
    return [tensor[(slice(None), *middle[1:])], tensor[middle[0]].reshape(-1)]


def _weighted(values: Tensor) -> Tensor:
    octets = values.contiguous().view(torch.uint8)
    octets = torch.nn.functional.pad(octets, (0, -len(octets) % 8))
    words = octets.view(torch.int64)
    # Odd weights: a change of any one word changes the sum, and so does an exchange of two.
    return (words * torch.arange(1, 2 * len(words), 2, device=words.device)).sum()


def check_output(model: nn.Module, graph: Graph, image: Tensor, logits: Tensor) -> None:
    """Compare the model's own output for one image with the graph's, which must have values.

    The model runs as it is, hooks included, on a copy of its structure.

    Args:
        model: what was traced.
        graph: what came of it.
        image: (1, ...). logits: the graph's for it, (1, C, ...).

    Raises:
        InputError: they differ by more than the rounding of their type; the message names the first operation that
            does.
    """
    own = _run(structural_copy(model), image)
    if not isinstance(own, Tensor) or own.shape != logits.shape or not _alike(own, logits):
        name, hooked = _first_difference(model, graph, image)
        kind = graph[name].kind
        reason = (
            "hooks of its module change it; remove them, or run the model once so that they have done their work"
            if hooked
            else "the model does something before or in it that tracing does not see, such as code that asks "
            "isinstance(x, torch.Tensor), a random number, or a function outside torch; write it with torch functions"
        )
        raise InputError(
            f"the traced operations do not compute what {type(model).__name__} computes: logits {_shown(logits)}, the "
            f"model's {_shown(own)}. The first operation that differs is {name!r} ({kind}): {reason}"
        )


def _shown(logits: Any) -> str:
    if not isinstance(logits, Tensor):
        return f"of type {type(logits).__name__}"
    return "[" + ", ".join(f"{value:.4g}" for value in logits.flatten()[:4].tolist()) + ", ...]"


def _alike(a: Tensor, b: Tensor) -> bool:
    lowest = a.dtype if a.dtype in LOW_PRECISION else b.dtype
    tolerance = torch.finfo(lowest).eps ** 0.5
    a, b = a.double(), b.double()
    scale = torch.maximum(a.nan_to_num(0, 0, 0).abs().amax(), b.nan_to_num(0, 0, 0).abs().amax())
    return torch.allclose(a, b, rtol=0, atol=float(tolerance * scale), equal_nan=True)


def _run(copy: nn.Module, image: Tensor) -> Any:
    """The output of a model, which takes its images in the type of its parameters."""
    parameter = next((p for p in copy.parameters() if p.is_floating_point()), image)
    if image.is_floating_point():
        image = image.to(parameter.dtype)
    try:
        return copy(image.clone())
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(copy).__name__} itself fails on these images: {error}") from error


def _first_difference(model: nn.Module, graph: Graph, image: Tensor) -> tuple[str, bool]:
    """Name of the first operation whose output is not its module's, and whether that module has hooks.

    The model's last operation where only what lies between modules differs.
    """
    copy = structural_copy(model)
    theirs, hooked = _outputs_of_modules(copy, image)
    ours = {operation.name: output for operation, output in graph.outputs(image)}
    for operation in graph.operations[1:]:
        own = theirs.get(operation.name)
        if isinstance(own, Tensor) and (
            own.shape != ours[operation.name].shape or not _alike(own, ours[operation.name])
        ):
            return operation.name, operation.name in hooked
    return graph.output.name, False


def _outputs_of_modules(copy: nn.Module, image: Tensor) -> tuple[Mapping[str, Any], set[str]]:
    """Outputs of a model's modules, by the names that their operations have, and those of modules with hooks."""
    paths = {module: path for path, module in copy.named_modules()}
    outputs: dict[str, Any] = {}
    hooked: set[str] = set()

    def record(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        name, count = paths[module], 0
        while name in outputs:
            count += 1
            name = f"{paths[module]}_{count}"
        result = module._call_impl(*args, **kwargs)
        outputs[name] = result.clone() if isinstance(result, Tensor) else result
        if module._forward_hooks or module._forward_pre_hooks:
            hooked.add(name)
        return result

    catch_calls(copy, record)
    _run(copy, image)
    return outputs, hooked
