r"""Attribution Equilibrium (Nam and Lee): from a signed contribution map at the last feature map to the input.

.. math:: G = \lambda\, a \odot \frac{1}{hw} \sum_{h,w} \frac{\partial z_t}{\partial a}, \quad
    \lambda = 1 / \Big| \sum a \odot \dots \Big|

(Eq. 5), so that :math:`\tau = |\sum G| = 1`; then the rules of ``propagation.rules.equilibrium`` down to the first
layer, which takes z^B. Pools send relevance to the winner or share it by proportion; batch norms pass it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.explainers.cam import last_feature_map
from relmap.network import Graph
from relmap.network.layouts import layout_of
from relmap.propagation import Activations, Composite, Propagation, Propagator, Walk, composites, starts
from relmap.propagation.engine import Transform
from relmap.propagation.rules import Bounds, Rule, Share, ZBox
from relmap.propagation.rules.base import divide, per_image_sum
from relmap.propagation.rules.equilibrium import (
    TOTAL,
    BalancedZBox,
    Equilibrium,
    FlooredShare,
    MainBranch,
    Terms,
    branch_point,
)
from relmap.propagation.rules.rap import PassNonZero

Residual = Literal["absolute", "authors"]
RESIDUALS: Mapping[str, Rule] = {"absolute": Share("absolute"), "authors": MainBranch()}


TERMS = ("C", "A", "U", "Psi")


def terms_named(names: str) -> Terms:
    """The terms of Eq. 13 that are written with plus signs, ``C+A+U+Psi``: these count, the others are left out.

    Raises:
        InputError: another name, one twice, or none of C, A and U, without which nothing is propagated.
    """
    given = names.split("+")
    if not set(given) <= set(TERMS) or len(set(given)) < len(given) or given == ["Psi"]:
        raise InputError(f"terms {names!r} are unknown; give some of {', '.join(TERMS)} once, such as C+A+U+Psi or C")
    contribution, activated, inactivated = (float(name in given) for name in TERMS[:3])
    return Terms(contribution, activated, inactivated, "activated" if "Psi" in given else "none")


def equilibrium(gamma: float, terms: Terms, residual: Residual, first: Rule) -> Composite:
    """The rules of Attribution Equilibrium; ``first`` is that of the layers that see the input.

    Raises:
        InputError: gamma outside [1, 2], or an unknown residual rule.
    """
    if not 1 <= gamma <= 2:
        raise InputError(f"gamma {gamma!r} of Attribution Equilibrium must lie in [1, 2]")
    if residual not in RESIDUALS:
        raise InputError(f"residual {residual!r} is unknown; choose one of {', '.join(RESIDUALS)}")
    rule = Equilibrium(gamma, terms)
    kinds = {"conv": rule, "linear": rule, "batch_norm": PassNonZero(), "average_pool": FlooredShare()}
    return Composite(
        composites.STRUCTURE | kinds | {"add": RESIDUALS[residual]}, first, fold_batch_norm=False, bias=False
    )


def contribution_map(gradient: Walk, activations: Activations, targets: Tensor, layer: str) -> Tensor:
    """Activation times the mean gradient of the target's logit over positions, (K, N, ...) as the layer's output lies.

    Signed, channels apart.
    """
    start = starts.stacked(starts.one_hot, activations.logits, targets)
    layout = layout_of(gradient.graph, layer, activations.shapes)
    at = layout.to_map(gradient.propagate(activations, start, stop=layer).relevance)
    return layout.from_map(layout.to_map(activations.outputs[layer]) * at.mean((-2, -1), keepdim=True))


def doubled_branches(graph: Graph) -> dict[str, Transform]:
    """Where the branches of each addition part, relevance is doubled."""
    carriers = graph.carriers()
    additions = [each for each in graph if each.kind == "add" and each.name in carriers]
    points = {branch_point(graph, each) for each in additions if not graph.adds_constant(each)}
    return dict.fromkeys(points, lambda relevance: 2 * relevance)


class AttributionEquilibrium(SharedPass):
    r"""Relevance at the input.

    Args:
        gamma: real number in [1, 2]; the total at every convolution of more than one pixel is ``gamma - 2``.
        low, high: bounds of the input (per channel, or one); None takes each image's own extremes, as the authors do.
        residual: at additions, ``absolute`` shares by the absolute contributions of the branches. ``authors`` sends
            half into the main branch, nothing into the skip, and doubles what comes out.
        total: what P and N are scaled to. ``tau`` is \|sum G\|, for which the paper's law of sums holds; ``printed`` is
            Eq. 6 as printed, sum \|G\| (the shift stays \|sum G\|).
        terms: which terms of the rule count; as text, those of Eq. 13, such as ``C+A+U+Psi``.
        balanced_input: balance the relevance before the first layer too.
        layer: operation whose output is the last feature map.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        gamma: float = 1.0,
        low: Bounds = None,
        high: Bounds = None,
        residual: Residual = "absolute",
        total: Literal["tau", "printed"] = "tau",
        terms: Terms | str | None = None,
        balanced_input: bool = False,
        layer: str | None = None,
    ) -> None:
        if total not in ("tau", "printed"):
            raise InputError(f"total {total!r} is unknown; choose tau or printed")
        terms = terms_named(terms) if isinstance(terms, str) else terms or Terms()
        first = BalancedZBox(low, high, gamma) if balanced_input else ZBox(low, high)
        self.layer = last_feature_map(propagator.graph) if layer is None else propagator.graph[layer].name
        self.gradient = propagator.by(composites.gradient())
        self.walk = propagator.by(equilibrium(gamma, terms, residual, first))
        self.printed = total == "printed"
        self.transforms = doubled_branches(propagator.graph) if residual == "authors" else {}
        self.walks, self.keep = (self.gradient, self.walk), (self.layer,)

    def start(self, activations: Activations, targets: Tensor) -> Tensor:
        """``G`` of Eq. 5, (K, N, C, h, w): its sum over an image is 1 or -1."""
        contributions = contribution_map(self.gradient, activations, targets, self.layer)
        return divide(contributions, per_image_sum(contributions).abs())

    def propagate(self, activations: Activations, targets: Tensor, **options: Any) -> Propagation:
        """From the start on; ``options`` are those of ``Walk.propagate`` (capture, stop, observe)."""
        start = self.start(activations, targets)
        context = {TOTAL: start.abs().flatten(2).sum(2)} if self.printed else {}
        return self.walk.propagate(
            activations, start, at=self.layer, transforms=self.transforms, context=context, **options
        )

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        return self.propagate(activations, targets).relevance
