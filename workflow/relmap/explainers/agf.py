r"""Attribution Guided Factorization (Gur et al. 2021): Gradient x Input at the class layer, guided down to the input.

With logits :math:`Y`, target :math:`t` and :math:`s = \max_c |Y_c - Y_t|` the score is

.. math:: p_t, \quad p = \mathrm{softmax}_c\big( Y_t \exp(-\tfrac{1}{2} ((Y_c - Y_t) / s)^2) \big)

and the start ``x * dp_t/dx`` at the class layer's input. The rules are those of ``propagation.rules.agf``; ReLUs block
relevance where they are closed, batch norms pass it on, additions and pools share it by proportion.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relmap.explainers.base import SharedPass
from relmap.explainers.rap import is_pointwise
from relmap.network.score_maps import pooled_scores, spread
from relmap.propagation import Activations, Composite, Propagation, Propagator, composites
from relmap.propagation.engine import Transform
from relmap.propagation.rules import Bounds, Pass, Rule, ZBox
from relmap.propagation.rules.agf import GRADIENTS, GuidedConvolution, GuidedLinear
from relmap.propagation.rules.base import divide
from relmap.propagation.rules.rap import AbsoluteShare, WidenedReLU, WidenedShare, WidenedWinner, widened

EPSILON = 1e-9


def guided_factorization(first: Rule) -> Composite:
    """AGF; ``first`` is the rule of the layers that see the input."""
    kinds = {
        "conv": GuidedConvolution(EPSILON),
        "linear": GuidedLinear(EPSILON),
        "relu": WidenedReLU(EPSILON),
        "batch_norm": Pass(),
        "average_pool": WidenedShare(EPSILON),
        "add": WidenedShare(EPSILON),
        "max_pool": WidenedWinner(EPSILON),
    }
    places = ((is_pointwise, AbsoluteShare(EPSILON)),)
    return Composite(composites.STRUCTURE | kinds, first, places, fold_batch_norm=False, bias=False)


def score_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """``dp_t / dY`` of logits (N, C, ...) and targets (K, N): (K, N, C, ...)."""
    scores, index = pooled_scores(logits.detach()), targets[..., None]
    with torch.enable_grad():
        y = scores.expand(len(targets), *scores.shape).clone().requires_grad_()
        target = y.gather(2, index)
        difference = y - target
        width = difference.abs().amax(2, keepdim=True)
        p = (target * torch.exp(-0.5 * (difference / width) ** 2)).softmax(2)
        gradient = torch.autograd.grad(p.gather(2, index).sum(), y)[0]
    return torch.stack([spread(each, logits) for each in gradient])


class AttributionGuidedFactorization(SharedPass):
    """Relevance at the input, divided by its maximum over the image and its channels.

    Args:
        low, high: bounds of the input (per channel, or one); None takes each image's own extremes, as the authors do.
    """

    def __init__(self, propagator: Propagator, *, low: Bounds = None, high: Bounds = None) -> None:
        graph = propagator.graph
        self.gradient = propagator.by(composites.gradient())
        self.walk = propagator.by(guided_factorization(ZBox(low, high)))
        self.at = graph.class_layer.inputs[0]
        # The class layer's relevance is the start; nothing behind it is walked.
        order = [operation.name for operation in graph]
        steps = [step for name, step in self.walk.steps.items() if order.index(name) <= order.index(self.at)]
        self.guides = {
            name
            for step in steps
            if isinstance(step.rule, GuidedLinear | GuidedConvolution)
            for name in step.rule.gradients_needed(step.operation)
        }
        self.forks = tuple(op.name for op in graph if op.kind != "input" and len(graph.consumers(op.name)) > 1)
        self.walks, self.keep = (self.gradient, self.walk), (self.at, *self.forks)

    def propagate(self, activations: Activations, targets: Tensor, **options: Any) -> Propagation:
        """From the start on, not normalised; ``options`` are those of ``Walk.propagate`` (capture, stop, observe)."""
        start = score_gradient(activations.logits, targets)
        names = [operation.name for operation in self.walk.graph if operation.name in {*self.guides, self.at}]
        gradients = self.gradient.propagate(activations, start, stop=names[0], capture=names).captured
        return self.walk.propagate(
            activations,
            activations.outputs[self.at] * gradients[self.at],
            at=self.at,
            transforms={name: self._joined(activations.outputs[name]) for name in self.forks},
            context={GRADIENTS: gradients},
            **options,
        )

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        relevance = self.propagate(activations, targets).relevance
        return divide(relevance, relevance.flatten(2).amax(2)[..., None, None, None])

    @staticmethod
    def _joined(x: Tensor) -> Transform:
        """Where branches part, their relevance goes back by ``x * (cam_1 / x + cam_2 / x)``."""
        return lambda relevance: relevance * widened(x, x, EPSILON)
