"""A graph in which a layer and the constant added to it are one layer, however the model spells them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from relmap.network.graph import Graph, Operation


def merged_biases(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """``W x`` and ``+ b`` as ``W x + b`` where b has one value for each output channel, or is one number.

    Rules tell a layer's bias from an input of an addition, so ``h @ w + b`` must be what ``F.linear(h, w.T, b)`` is.
    The layer keeps its name.
    """
    graph = Graph(operations)
    merged: dict[str, Operation] = {}
    renamed: dict[str, str] = {}
    for operation in operations:
        found = _layer_and_bias(graph, operation, merged)
        if found is not None:
            layer, bias = found
            affine = replace(layer.affine, bias=bias, _derived={})
            merged[operation.name] = replace(layer, affine=affine, run=affine.forward)
            renamed[operation.name] = layer.name
    gone = {layer.name: name for name, layer in merged.items()}
    result = []
    for operation in operations:
        operation = merged.get(operation.name, operation)
        if operation.name in gone and operation is not merged[gone[operation.name]]:
            continue
        names = {
            key: tuple(renamed.get(name, name) for name in getattr(operation, key))
            for key in ("inputs", "constants", "sizes")
        }
        result.append(replace(operation, **names))
    return tuple(result)


def _layer_and_bias(
    graph: Graph, operation: Operation, merged: dict[str, Operation]
) -> tuple[Operation, Tensor] | None:
    """A layer that ends in this addition alone, as it is after earlier merges, and its bias with what is added."""
    if operation.kind != "add" or len(operation.inputs) != 2:
        return None
    for first, second in (operation.inputs, operation.inputs[::-1]):
        layer, constant = merged.get(first, graph[first]), graph[second]
        # A constant that is aligned with the layer's output reads its shape.
        alone = layer.affine is not None and all(user in (operation, constant) for user in graph.users(first))
        if layer.kind in ("conv", "linear") and alone and isinstance(constant.settings.get("value"), Tensor):
            bias = _per_channel(layer, constant.settings["value"])
            if bias is not None:
                return layer, bias if layer.affine.bias is None else layer.affine.bias + bias
    return None


def _per_channel(layer: Operation, value: Tensor) -> Tensor | None:
    """A constant as one value for each output channel of a layer; None where it is not that."""
    channels = layer.affine.channels
    if value.numel() == 1:
        return value.reshape(1).to(layer.affine.weight.dtype).expand(channels)
    after = layer.affine.dimensions
    shape = tuple(value.shape)
    aligned = shape[-1 - after :] if len(shape) > after else ()
    if value.is_floating_point() and aligned == (channels, *[1] * after) and value.numel() == channels:
        return value.reshape(-1)
    return None
