r"""Relevance-CAM (Lee et al. 2021): a class activation map of any layer whose weights are relevances.

.. math:: M = \sum_c A_c \, \frac{1}{hw} \sum_{h,w} R_c

with R the relevance at the output of the layer, by z+ from 1 at the target and -1/N at the other classes (N classes).
The rules are those of the authors' code: linear layers without bias, twice the bias in a convolution's denominator
(``relmap.propagation.rules.released``), batch norms pass relevance on, additions share it by the signed addends.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor

from relmap.explainers.base import SharedPass
from relmap.explainers.cam import last_feature_map
from relmap.network.layouts import layout_of
from relmap.propagation import Activations, Composite, Propagator, composites, starts
from relmap.propagation.rules import Pass
from relmap.propagation.rules.precision import InDouble
from relmap.propagation.rules.released import ReleasedPlus

_EPSILON = 1e-9


def relevance_cam_rules() -> Composite:
    """z+ as the authors' code has it."""
    convolution, linear = ReleasedPlus(2, _EPSILON, "signs"), ReleasedPlus(0, _EPSILON, "signs")
    kinds = {"conv": convolution, "linear": linear, "batch_norm": Pass()}
    # A class layer is linear in their networks; as a convolution its bias could turn the map round.
    composite = Composite(composites.STRUCTURE | kinds, fold_batch_norm=False, bias=False)
    return composites.with_class_layer(composite, InDouble(linear))


class RelevanceCAM(SharedPass):
    """Maps (K, N, h, w), signed.

    Args:
        propagator: of the model.
        layer: name of a layer or block; the last feature map by default.
    """

    def __init__(self, propagator: Propagator, *, layer: str | None = None) -> None:
        self.graph = graph = propagator.graph
        self.layer = last_feature_map(graph) if layer is None else graph.activation_of(layer)
        self.walk = propagator.by(relevance_cam_rules())
        self.walks, self.keep = (self.walk,), (self.layer,)

    def signed_activation_map(self) -> Self:
        return self

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        start = starts.stacked(starts.contrast, activations.logits, targets)
        relevance = self.walk.propagate(activations, start, stop=self.layer).relevance
        layout = layout_of(self.graph, self.layer, activations.shapes)
        features = layout.to_map(activations.outputs[self.layer])
        weights = layout.to_map(relevance).mean(dim=(-2, -1), keepdim=True).to(features.dtype)
        return (features * weights).sum(2)
