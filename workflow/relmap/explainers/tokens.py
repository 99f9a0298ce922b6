"""What is looked at in a vision transformer: its attention, the token that logits are read off, the layer of CAMs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from relmap.explainers.cam import last_feature_map
from relmap.network import Graph
from relmap.network.layouts import Layout, feature_maps, layout_of
from relmap.propagation.rules.abslrp_attention import from_softmax, mixes_values

Shapes = Mapping[str, torch.Size]


def attention_weights(graph: Graph) -> tuple[str, ...]:
    """Names of the softmaxes whose outputs mix values, in order of execution: one a layer of self-attention."""
    found = []
    for operation in graph:
        if mixes_values(graph, operation):
            name = next(name for name in operation.inputs if from_softmax(graph, name))
            while graph[name].kind != "softmax":
                name = graph[name].inputs[0]
            found.append(name)
    return tuple(found)


def attended_tokens(graph: Graph, shapes: Shapes | None = None) -> tuple[str, Layout] | None:
    """What the last attention reads, its layer norm where there is one, and how the tokens lie in it.

    None where no attention reads tokens whose positions are known. ``shapes``: of all outputs, for images of the size
    that is meant; by default the likeliest.
    """
    weights = attention_weights(graph)
    if not weights:
        return None
    found, name, first = _feature_maps(graph, shapes), weights[-1], graph.operations[0].name
    while found.get(name) is None:
        name = graph.dominators[name]
        if name == first:
            return None
    return name, layout_of(graph, name, shapes)


def class_token(graph: Graph, shapes: Shapes | None = None) -> int | None:
    """Place among the tokens of the one that the logits are read off; None where they are read off several."""
    weights = attention_weights(graph)
    if not weights:
        return None
    shapes = _feature_maps(graph, shapes).shapes  # of one image
    for operation in graph:
        if operation.kind != "reshape" or operation.constants or weights[-1] not in graph.behind(operation.name):
            continue
        shape, result = shapes[operation.inputs[0]], shapes[operation.name]
        if len(shape) == 3 and shape[1] > 1 and result.numel() * shape[1] == shape.numel():
            numbers = torch.arange(shape[1])[None, :, None].expand(shape)
            taken = operation.bound({}, shapes).run(numbers).unique()
            return int(taken) if len(taken) == 1 else None
    return None


def cam_layer(graph: Graph) -> str:
    """Name of the operation that class activation maps read: the last feature map, or what the last attention reads.

    The latter where logits are read off a class token: after the last attention no gradient reaches the other tokens,
    and between it and its layer norm the gradient is orthogonal to each token, so that HiResCAM is 0 there.

    Raises:
        InputError: there is none, or its channels and positions are not known.
    """
    found = attended_tokens(graph) if not graph.feature_map and class_token(graph) is not None else None
    return last_feature_map(graph) if found is None else found[0]


def _feature_maps(graph: Graph, shapes: Shapes | None):
    return feature_maps(graph, None if shapes is None else tuple(shapes[graph.operations[0].name][1:]))
