"""Relative Sectional Propagation (Nam et al. 2021): from a signed map at the last feature map to the input.

The start is the contribution map of Attribution Equilibrium divided by its maximum over the image; the rules are those
of ``propagation.rules.rsp``. Average pools and additions share by ``max(x, 0) + 1e-9``, maximum pools send
relevance to the winner, batch norms pass it on where their input is not 0, the first layer takes z^B.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from relmap.explainers.base import SharedPass
from relmap.explainers.cam import last_feature_map
from relmap.explainers.equilibrium import contribution_map
from relmap.propagation import Activations, Composite, Propagation, Propagator, composites
from relmap.propagation.rules import Bounds, Rule, ZBox
from relmap.propagation.rules.equilibrium import FlooredShare
from relmap.propagation.rules.rap import PassNonZero
from relmap.propagation.rules.rsp import RelativeSectional


def relative_sectional(first: Rule) -> Composite:
    """RSP; ``first`` is the rule of the layers that see the input."""
    kinds = {
        "conv": RelativeSectional(),
        "linear": RelativeSectional(),
        "batch_norm": PassNonZero(),
        "average_pool": FlooredShare(),
        "add": FlooredShare(),
    }
    return Composite(composites.STRUCTURE | kinds, first, fold_batch_norm=False, bias=False)


class RelativeSectionalPropagation(SharedPass):
    """Relevance at the input.

    Args:
        low, high: bounds of the input (per channel, or one); None takes each image's own extremes, as the authors do.
        layer: operation whose output is the last feature map.
    """

    def __init__(
        self, propagator: Propagator, *, low: Bounds = None, high: Bounds = None, layer: str | None = None
    ) -> None:
        self.layer = last_feature_map(propagator.graph) if layer is None else propagator.graph[layer].name
        self.gradient = propagator.by(composites.gradient())
        self.walk = propagator.by(relative_sectional(ZBox(low, high)))
        self.walks, self.keep = (self.gradient, self.walk), (self.layer,)

    def start(self, activations: Activations, targets: Tensor) -> Tensor:
        """(K, N, C, h, w), its maximum over an image is 1."""
        contributions = contribution_map(self.gradient, activations, targets, self.layer)
        return contributions / (contributions.amax(tuple(range(2, contributions.dim())), keepdim=True) + 1e-9)

    def propagate(self, activations: Activations, targets: Tensor, **options: Any) -> Propagation:
        """From the start on; ``options`` are those of ``Walk.propagate`` (capture, stop, observe)."""
        return self.walk.propagate(activations, self.start(activations, targets), at=self.layer, **options)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        return self.propagate(activations, targets).relevance
