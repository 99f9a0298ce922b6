"""The methods that CLAM's tables compare with, sharing passes: one forward, one backward per kind of gradient.

Gradient, linear approximation and Grad-CAM come from the same backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.explainers.cam import grad_cam, last_feature_map
from relmap.explainers.excitation import excitation, excitation_layer
from relmap.explainers.gradients import linear_approximation, sensitivity
from relmap.network import Graph
from relmap.propagation import Activations, Propagator, composites, starts


def _at_input(graph: Graph) -> str:
    """The input, or the embedding of its tokens."""
    embedded = [user.name for user in graph.consumers(graph.operations[0].name) if user.kind == "embedding"]
    return embedded[0] if embedded else graph.operations[0].name


def _channels_first(values: Tensor) -> Tensor:
    """(N, C, ...) of feature maps as they are, of tokens (N, T, C), or of rows (N, F), whose features are places."""
    match values.dim():
        case 2:
            return values[:, None]
        case 3:
            return values.movedim(-1, 1)
    return values


@dataclass(frozen=True)
class Baseline:
    """One method.

    Attributes:
        backward: key of ``PASSES``.
        read: (features, their relevance), each (N, C, h, w), to the map (N, h, w).
        layer: graph to the name of the operation whose output is read.
    """

    backward: str
    read: Callable[[Tensor, Tensor], Tensor]
    layer: Callable[[Graph], str] = _at_input


PASSES: Mapping[str, composites.Composite] = {
    "gradient": composites.gradient(),
    "deconvnet": composites.gradient("deconvnet"),
    "guided": composites.gradient("guided"),
    "excitation": composites.excitation_backprop(),
}

BASELINES: Mapping[str, Baseline] = {
    "linear_approximation": Baseline("gradient", linear_approximation),
    "deconvnet": Baseline("deconvnet", sensitivity),
    "gradient": Baseline("gradient", sensitivity),
    "guided_backprop": Baseline("guided", sensitivity),
    "grad_cam": Baseline("gradient", grad_cam, last_feature_map),
    "excitation_backprop": Baseline("excitation", excitation, excitation_layer),
}


class BaselineMap(Explainer):
    """One of ``BASELINES`` by itself.

    Args:
        propagator: of the model.
        baseline: key of ``BASELINES``.
        layer: name of a layer or block to read instead of the method's own choice.
    """

    def __init__(self, propagator: Propagator, *, baseline: str, layer: str | None = None) -> None:
        if baseline not in BASELINES:
            raise InputError(f"unknown baseline {baseline!r}; choose from {', '.join(BASELINES)}")
        self.baseline, graph = BASELINES[baseline], propagator.graph
        self.layer = self.baseline.layer(graph) if layer is None else graph.activation_of(layer)
        self.walk = propagator.by(PASSES[self.baseline.backward])
        self.walks, self.keep = (self.walk,), (self.layer,)

    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        relevance = self.walk.propagate(activations, start, stop=self.layer).relevance
        features, relevance = (
            _channels_first(values.flatten(0, 1))
            for values in (activations.outputs[self.layer].expand_as(relevance), relevance)
        )
        return self.baseline.read(features, relevance).unflatten(0, targets.shape)


class Baselines:
    """Explains one model by some of ``BASELINES``; the model is traced once, its parameters are read, never changed.

    Args:
        model: a classifier of images.
        methods: keys of ``BASELINES``.
        layers: method -> name of a layer or block to read instead of the method's own choice.

    Raises:
        InputError: an unknown method or layer.
    """

    def __init__(self, model: nn.Module, methods: Iterable[str], layers: Mapping[str, str] | None = None) -> None:
        methods, layers = tuple(methods), dict(layers or {})
        unknown = [name for name in (*methods, *layers) if name not in BASELINES]
        if unknown:
            raise InputError(f"unknown baseline {unknown[0]!r}; choose from {', '.join(BASELINES)}")
        self._propagator = Propagator(model)
        graph = self._propagator.graph
        self._layers = {
            name: graph.activation_of(layers[name]) if name in layers else BASELINES[name].layer(graph)
            for name in methods
        }
        backward = dict.fromkeys(BASELINES[name].backward for name in methods)
        self._walks = {key: self._propagator.by(PASSES[key]) for key in backward}
        self._order = [operation.name for operation in graph]

    def __call__(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Maps of the logits of ``targets``, each image by itself.

        Args:
            images: (N, C, H, W), normalised as the model takes them.
            targets: (N,) int64.

        Returns:
            method -> (N, H, W) float32, signed, not normalised; maps of inner layers bilinearly resized.
        """
        if not self._walks:
            return {}
        activations = self._propagator.forward(images, list(self._walks.values()), keep=self._layers.values())
        start = starts.one_hot(activations.logits, targets)[None]
        maps: dict[str, Tensor] = {}
        for key, walk in self._walks.items():
            layers = {name: layer for name, layer in self._layers.items() if BASELINES[name].backward == key}
            stop = min(layers.values(), key=self._order.index)
            result = walk.propagate(activations, start, stop=stop, capture=layers.values())
            for name, layer in layers.items():
                features, relevance = activations.outputs[layer], result.captured[layer][0]
                maps[name] = _resized(BASELINES[name].read(features, relevance), images.shape[-2:]).float()
        return {name: maps[name] for name in self._layers}


def explain_baselines(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    methods: Iterable[str] = tuple(BASELINES),
    layers: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Maps of one batch; see ``Baselines``, which saves the tracing where there are several."""
    return Baselines(model, methods, layers)(images, targets)


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
