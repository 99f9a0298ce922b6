r"""Excitation backpropagation (Zhang et al. 2018): marginal winning probabilities at an inner layer.

.. math:: R_i = x_i \sum_j w_{ij}^+ \frac{R_j}{\sum_{i'} w_{i'j}^+ x_{i'}}

The contrastive form subtracts, at the contrast layer just before the last layer, what the same start gives when the
last layer's weights are negated:

.. math:: R_i - \bar R_i, \qquad
    \bar R_i = x_i \sum_j w_{ij}^- \frac{R_j}{\sum_{i'} w_{i'j}^- x_{i'}} \quad \text{(last layer only)}

and propagates the difference; the map's negative part is cut off at the end. The negated layer is alpha-beta's with
alpha 0 and beta -1, so the model is not copied. Conventions are TorchRay's: batch norms pass relevance on, additions
share it by the signed addends.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from relmap.explainers.base import Explainer
from relmap.explainers.cam import last_feature_map
from relmap.propagation import Activations, Composite, Graph, Operation, Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta
from relmap.propagation.rules.released import ReleasedPlus

# Where to read by the block of the last feature map: TorchRay's layer3 for ResNets, and alike for Inception.
LAYERS = {"layer4": "layer3", "Mixed_7c": "Mixed_6e"}


def excitation(features: Tensor, relevance: Tensor) -> Tensor:
    """Relevance summed over the channels: (N, C, h, w) to (N, h, w). ``features`` are not looked at."""
    return relevance.sum(1)


def excitation_layer(graph: Graph) -> str:
    """Name of the operation at whose output to stop: where the last stage begins.

    ``LAYERS`` by the last feature map's block, else the last pooling before that map (``features.23`` in VGG-16, as in
    TorchRay), else that map itself.
    """
    last = last_feature_map(graph)
    for block, layer in LAYERS.items():
        if last == block or last.startswith(f"{block}."):
            return graph.activation_of(layer)
    before = [operation for operation in graph if operation.kind in ("max_pool", "average_pool")]
    order = [operation.name for operation in graph]
    names = [operation.name for operation in before if order.index(operation.name) < order.index(last)]
    return names[-1] if names else last


def last_layer(graph: Graph) -> Operation:
    """The last convolution or linear layer, whose outputs are the classes."""
    return [operation for operation in graph if operation.kind in ("conv", "linear")][-1]


def contrast_layer(graph: Graph) -> str:
    """Name of the operation that gives the last layer's input, before it is flattened.

    ``classifier.4`` in VGG-16 and ``avgpool`` in ResNets, as in TorchRay.
    """
    operation = graph[last_layer(graph).inputs[0]]
    while operation.kind == "reshape":
        operation = graph[operation.inputs[0]]
    return operation.name


def torchray_excitation() -> Composite:
    """``composites.excitation_backprop`` with TorchRay's first layer: x W+ whatever the sign of the image."""
    return replace(composites.excitation_backprop(), first=ReleasedPlus(epsilon=1e-20))


def negated_last_layer(composite: Composite) -> Composite:
    """``composite`` as it would be with the last layer's weights negated; that layer's rule is z+ without bias."""

    def is_last(graph: Graph, operation: Operation) -> bool:
        return operation.name == last_layer(graph).name

    return replace(composite, places=((is_last, AlphaBeta(0.0, -1.0)), *composite.places))


class ExcitationBackprop(Explainer):
    """Maps (K, N, h, w) of relevance at a layer, from 1 at the target.

    Args:
        propagator: of the model.
        layer: name of a layer or block; ``excitation_layer`` by default. ``input`` goes down to the image.
    """

    def __init__(self, propagator: Propagator, *, layer: str | None = None) -> None:
        graph = propagator.graph
        self.layer = excitation_layer(graph) if layer is None else graph.activation_of(layer)
        self.walk = propagator.by(torchray_excitation())
        self.walks = (self.walk,)

    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        return self.walk.propagate(activations, start, stop=self.layer).relevance.sum(2)


class ContrastiveExcitationBackprop(Explainer):
    """Maps (K, N, h, w) that are not negative, of the contrast at a layer.

    Args:
        propagator: of the model.
        layer: name of a layer or block; ``excitation_layer`` by default. ``input`` goes down to the image.
        contrast: name of the layer at which to subtract; ``contrast_layer`` by default. ``layer`` lies before it.
    """

    def __init__(self, propagator: Propagator, *, layer: str | None = None, contrast: str | None = None) -> None:
        graph = propagator.graph
        self.layer = excitation_layer(graph) if layer is None else graph.activation_of(layer)
        self.contrast = contrast_layer(graph) if contrast is None else graph.activation_of(contrast)
        composite = torchray_excitation()
        self.walk, self.negated = propagator.by(composite), propagator.by(negated_last_layer(composite))
        self.walks = (self.walk, self.negated)

    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        for_, against = (
            walk.propagate(activations, start, stop=self.contrast).relevance for walk in (self.walk, self.negated)
        )
        result = self.walk.propagate(activations, for_ - against, at=self.contrast, stop=self.layer)
        return result.relevance.sum(2).clamp(min=0)
