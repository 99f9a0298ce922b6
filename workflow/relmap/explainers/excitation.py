r"""Excitation backpropagation (Zhang et al. 2018): marginal winning probabilities at an inner layer.

.. math:: R_i = x_i \sum_j w_{ij}^+ \frac{R_j}{\sum_{i'} w_{i'j}^+ x_{i'}}

The contrastive form subtracts at the last layer what the same start gives when the layer's weights are negated,

.. math::
    R_i = x_i \sum_j \Big( \frac{w_{ij}^+}{\sum_{i'} w_{i'j}^+ x_{i'}}
          - \frac{w_{ij}^-}{\sum_{i'} w_{i'j}^- x_{i'}} \Big) R_j \quad \text{(last layer only)}

propagates the difference by the rule above and cuts the map's negative part off at the end. The negated layer is
alpha-beta's with alpha 0 and beta -1, so the model is not copied. TorchRay subtracts at a "contrast layer" further down
(``classifier.4``, ``avgpool``); all rules are linear in relevance, so it may as well be at once. Its other conventions
are kept: batch norms pass relevance on, additions share it by the signed addends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.explainers.cam import last_feature_map, stage_before
from relmap.network import Graph
from relmap.network.layouts import layout_of
from relmap.propagation import Activations, Composite, Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta, Gradient, ReluGradient, Rule
from relmap.propagation.rules.precision import Difference, InDouble
from relmap.propagation.rules.released import ReleasedPlus


def excitation(features: Tensor, relevance: Tensor) -> Tensor:
    """Relevance summed over the channels: (N, C, h, w) to (N, h, w). ``features`` are not looked at."""
    return relevance.sum(1)


def excitation_layer(graph: Graph) -> str:
    """Name of the operation at whose output to stop: where the last stage begins (``cam.stage_before``)."""
    return stage_before(graph, last_feature_map(graph))


def torchray_excitation(additions: Literal["share", "copy"] = "share") -> Composite:
    """``composites.excitation_backprop`` with TorchRay's first layer: x W+ whatever the sign of the image.

    ``additions``: ``share`` relevance by the signed addends, TorchRay's patch for skip connections; or ``copy`` all of
    it to each, what its code does without the patch, with totals that grow from block to block.
    """
    if additions not in ("share", "copy"):
        raise InputError(f"additions {additions!r} is unknown; choose share or copy")
    composite = replace(composites.excitation_backprop(), first=ReleasedPlus(epsilon=1e-20))
    if additions == "share":
        return composite
    return replace(composite, kinds={**composite.kinds, "add": Gradient(), "relu": ReluGradient()})


# z+ without bias of a last layer whose weights are negated, and what is left of z+ when that is subtracted.
NEGATED = AlphaBeta(0.0, -1.0)
CONTRAST = InDouble(Difference(AlphaBeta(), NEGATED))


class ExcitationBackprop(SharedPass):
    """Maps (K, N, h, w) of relevance at a layer, from 1 at the target.

    Args:
        propagator: of the model.
        layer: name of a layer or block; ``excitation_layer`` by default. ``input`` goes down to the image.
        additions: ``share`` or ``copy``, see ``torchray_excitation``.
    """

    last: Rule | None = None
    conserving = True

    def __init__(
        self, propagator: Propagator, *, layer: str | None = None, additions: Literal["share", "copy"] = "share"
    ) -> None:
        self.graph = graph = propagator.graph
        self.layer = excitation_layer(graph) if layer is None else graph.activation_of(layer)
        composite = torchray_excitation(additions)
        self.walk = propagator.by(composite if self.last is None else composites.with_class_layer(composite, self.last))
        self.walks = (self.walk,)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        if self.last is not None:  # what is left of 1 has a total of 0, which float64 keeps
            start = start.double()
        relevance = self.walk.propagate(activations, start, stop=self.layer).relevance
        layout = layout_of(self.graph, self.layer, activations.shapes)
        return layout.to_map(relevance).sum(2).to(activations.logits.dtype)


class ContrastiveExcitationBackprop(ExcitationBackprop):
    """Maps (K, N, h, w) that are not negative, of the contrast at a layer; arguments as of ``ExcitationBackprop``."""

    last = CONTRAST
    conserving = False

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        return super().read(activations, targets).clamp(min=0)
