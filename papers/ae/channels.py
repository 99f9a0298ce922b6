"""Channels of inner layers by the terms of Eq. 13: with the activation properties A and U, and without (Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from relmap.explainers.equilibrium import AttributionEquilibrium
from relmap.propagation import Propagator
from torch import Tensor

VARIANTS: Mapping[str, str] = {"with": "C+A+U+Psi", "without": "C+Psi"}


def inner_layers(explain: AttributionEquilibrium, count: int) -> list[str]:
    """Names of ``count`` ReLUs before the last feature map, spread evenly, from the output on."""
    graph = explain.walk.graph
    names = [operation.name for operation in graph if operation.kind == "relu"]
    behind = graph.behind(explain.layer)
    inner = [name for name in names if name in behind and name != explain.layer]
    chosen = np.unique(np.linspace(0, len(inner) - 1, min(count, len(inner))).round().astype(int))
    return [inner[index] for index in reversed(chosen)]


def channel_attributions(
    propagator: Propagator, images: Tensor, targets: Tensor, layers: int, channels: int
) -> dict[str, np.ndarray]:
    """Relevance of inner layers by both variants.

    Args:
        propagator: of the model, whose ``input_range`` has no part in inner layers.
        images: (N, 3, H, W).
        targets: (N,).
        layers: how many layers.
        channels: how many channels of each: those of the largest absolute relevance with A and U, in both variants.

    Returns:
        ``layers``, their names, from the output on; by layer ``<layer>/features`` (N, h, w), the sum over channels;
        by variant ``<layer>/<variant>/sum`` (N, h, w) and ``<layer>/<variant>/channels`` (N, channels, h, w); and
        ``<layer>/chosen`` (N, channels), the channels' numbers.
    """
    explainers = {name: AttributionEquilibrium(propagator, gamma=1.0, terms=terms) for name, terms in VARIANTS.items()}
    first = explainers["with"]
    names = inner_layers(first, layers)
    walks = [walk for explain in explainers.values() for walk in explain.walks]
    activations = propagator.forward(images, walks, (first.layer, *names))
    captured = {
        name: explain.propagate(activations, targets[None], capture=set(names)).captured
        for name, explain in explainers.items()
    }
    arrays: dict[str, np.ndarray] = {"layers": np.array(names)}
    for layer in names:
        relevance = {name: found[layer][0].float() for name, found in captured.items()}
        largest = relevance["with"].abs().sum((2, 3)).topk(channels, dim=1).indices
        arrays[f"{layer}/features"] = _array(activations.outputs[layer].sum(1))
        arrays[f"{layer}/chosen"] = largest.cpu().numpy()
        for name, values in relevance.items():
            arrays[f"{layer}/{name}/sum"] = _array(values.sum(1))
            arrays[f"{layer}/{name}/channels"] = _array(_picked(values, largest))
    return arrays


def _picked(values: Tensor, channels: Tensor) -> Tensor:
    return torch.stack([one[own] for one, own in zip(values, channels, strict=True)])


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def layers_of(arrays: Mapping[str, np.ndarray]) -> Sequence[str]:
    """The names of the layers, as text."""
    return [str(name) for name in arrays["layers"]]
