r"""Gradients, their altered forms, and what is read off them.

Methods that read the same pass at the same layer share it: the class activation maps of a network are made by one
forward and one backward pass. Of two passes, Guided Grad-CAM is (Selvaraju et al. 2017)

.. math:: R = g \cdot \mathrm{resized}(M)

with ``g`` the pseudo-gradient of guided backpropagation at the image and ``M`` the map of Grad-CAM.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass, as_maps
from relmap.explainers.cam import (
    ActivationMap,
    grad_cam,
    grad_cam_pp,
    hires_cam,
    last_map_before,
    layer_cam,
    norm_grad,
    wgrad_cam,
    xgrad_cam,
)
from relmap.explainers.gradients import linear_approximation, magnitude, sensitivity, signal, smoothed
from relmap.explainers.tokens import cam_layer
from relmap.network import Graph
from relmap.network.layouts import layout_of
from relmap.propagation import Activations, Propagator, Walk, composites, starts


def _at_input(graph: Graph) -> str:
    """The input, or the embedding of its tokens."""
    embedded = [user.name for user in graph.consumers(graph.operations[0].name) if user.kind == "embedding"]
    return embedded[0] if embedded else graph.operations[0].name


def _before_cam_layer(graph: Graph) -> str:
    return last_map_before(graph, cam_layer(graph))


@dataclass(frozen=True)
class Baseline:
    """One method.

    Attributes:
        backward: key of ``PASSES``.
        read: (features, their relevance), each (N, C, h, w), to the map (N, h, w).
        by_channel: the same pair to what ``read`` merges, (N, C, h, w); None where that is nothing at the input.
        layer: graph to the name of the operation whose output is read.
    """

    backward: str
    read: Callable[[Tensor, Tensor], Tensor]
    layer: Callable[[Graph], str] = _at_input
    by_channel: Callable[[Tensor, Tensor], Tensor] | None = None


PASSES: Mapping[str, composites.Composite] = {
    "gradient": composites.gradient(),
    "deconvnet": composites.gradient("deconvnet"),
    "guided": composites.gradient("guided"),
}

BASELINES: Mapping[str, Baseline] = {
    "linear_approximation": Baseline("gradient", linear_approximation, by_channel=torch.mul),
    "deconvnet": Baseline("deconvnet", sensitivity, by_channel=signal),
    "gradient": Baseline("gradient", sensitivity, by_channel=magnitude),
    "guided_backprop": Baseline("guided", sensitivity, by_channel=signal),
    "grad_cam": Baseline("gradient", grad_cam, cam_layer),
    "grad_cam_pp": Baseline("gradient", grad_cam_pp, cam_layer),
    "hires_cam": Baseline("gradient", hires_cam, cam_layer),
    "layer_cam": Baseline("gradient", layer_cam, cam_layer),
    "xgrad_cam": Baseline("gradient", xgrad_cam, cam_layer),
    "wgrad_cam": Baseline("gradient", wgrad_cam, cam_layer),
    "norm_grad": Baseline("gradient", norm_grad, _before_cam_layer),
}


def backward(walk: Walk, name: str, activations: Activations, targets: Tensor, layer: str) -> Tensor:
    """The (pseudo-)gradient of the targets' logits (K, N) at a layer's output, (K, N, ...).

    ``walk`` is the one of ``PASSES[name]``.
    """

    def propagate() -> Tensor:
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        return walk.propagate(activations, start, stop=layer).relevance

    return activations.once((name, layer), targets, propagate)


class BaselineMap(SharedPass):
    """One of ``BASELINES`` by itself.

    Args:
        propagator: of the model.
        baseline: key of ``BASELINES``.
        layer: name of a layer or block to read instead of the method's own choice.
        smooth: standard deviation of a Gaussian that the map is smoothed by, as a share of its longer side; 0 for none.
    """

    def __init__(self, propagator: Propagator, *, baseline: str, layer: str | None = None, smooth: float = 0.0) -> None:
        if baseline not in BASELINES:
            raise InputError(f"unknown baseline {baseline!r}; choose from {', '.join(BASELINES)}")
        if smooth < 0:
            raise InputError(f"smooth is {smooth}; give a share of the map's longer side, 0 for none")
        self.baseline, self.graph, self.smooth = BASELINES[baseline], propagator.graph, smooth
        graph = self.graph
        self.layer = self.baseline.layer(graph) if layer is None else graph.activation_of(layer)
        self.walk = propagator.by(PASSES[self.baseline.backward])
        self.walks, self.keep = (self.walk,), (self.layer,)

    def signed_activation_map(self) -> Self | None:
        if not isinstance(self.baseline.read, ActivationMap):
            return None
        signed = copy.copy(self)
        signed.baseline = replace(self.baseline, read=self.baseline.read.signed)
        return signed

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        maps = self.baseline.read(*self._pair(activations, targets))
        return (smoothed(maps, self.smooth) if self.smooth else maps).unflatten(0, targets.shape)

    def read_by_channel(self, activations: Activations, targets: Tensor) -> Tensor:
        at_input = self.layer == self.graph.operations[0].name
        if self.baseline.by_channel is None or self.smooth or not at_input:
            return self.read(activations, targets)
        return self.baseline.by_channel(*self._pair(activations, targets)).unflatten(0, targets.shape)

    def relevance(self, activations: Activations, targets: Tensor) -> Tensor:
        """What arrives at the layer, (K, N, ...)."""
        return backward(self.walk, self.baseline.backward, activations, targets, self.layer)

    def _pair(self, activations: Activations, targets: Tensor) -> Iterator[Tensor]:
        """Features and their relevance, each (K N, C, h, w)."""
        relevance = self.relevance(activations, targets)
        features = activations.outputs[self.layer].expand_as(relevance)
        return (self._channels_first(values, activations).flatten(0, 1) for values in (features, relevance))

    def _channels_first(self, values: Tensor, activations: Activations) -> Tensor:
        """(K, N, C, h, w) of a feature map, (K, N, 1, F) of features without positions, (K, N, C, T) of text."""
        if values.dim() == 3:
            return values[:, :, None]
        if values.dim() == 4 and self.graph[self.layer].kind == "embedding":
            return values.movedim(-1, 2)
        return layout_of(self.graph, self.layer, activations.shapes).to_map(values)


class GuidedGradCAM(SharedPass):
    """Guided backpropagation times Grad-CAM resized to the image, signed.

    Args:
        propagator: of the model.
        layer: name of a layer or block to read Grad-CAM at instead of its own choice.
    """

    def __init__(self, propagator: Propagator, *, layer: str | None = None) -> None:
        self.cam = BaselineMap(propagator, baseline="grad_cam", layer=layer)
        self.guided = propagator.by(PASSES["guided"])
        self.input = propagator.graph.operations[0].name
        self.walks, self.keep = (*self.cam.walks, self.guided), self.cam.keep

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        maps = as_maps(self.cam.read(activations, targets), activations.shapes[self.input])
        return backward(self.guided, "guided", activations, targets, self.input) * maps.unsqueeze(2)
