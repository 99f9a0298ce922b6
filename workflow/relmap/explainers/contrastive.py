r"""Contrastive LRP in two passes: the target's relevance less that of the other classes, brought to the same total.

.. math:: R = R_t - R_o \frac{\sum R_t}{\sum R_o} \quad \text{(sums over one image's input)}

``TwoPasses`` has three readings of where the passes start, with logits z, probabilities y = softmax(z) and C classes:

- ``clrp``: :math:`|z_t|` at t, and :math:`|z_t| / (C-1)` elsewhere (as AGF's and SGLRP's authors read Gu et al. 2018,
  but for the sign: they start from :math:`z_t`, and where that is negative have our map turned round);
- ``sglrp`` (Iwana et al. 2019): :math:`y_t (1 - y_t)` at t, and :math:`y_t y_n` elsewhere;
- ``sglrp_agf``: the same with 1e-8 added at t, AGF's, which decides where the network is sure.

The code of Gu et al. brings both to the total 1. It starts from :math:`|z_t|` at t and subtracts

- ``GuCLRP`` (their type 1): :math:`|z_n|` at all n but t;
- ``GuNegatedCLRP`` (their type 2): the same :math:`|z_t|` with the last layer's weights negated.

Rules are linear in relevance, so with :math:`R_d = R_t - c R_o` for any number c these are

.. math::
    R_t - R_o \frac{\sum R_t}{\sum R_o} = R_d - R_o \frac{\sum R_d}{\sum R_o}, \qquad
    \frac{R_t}{\sum R_t} - \frac{R_o}{\sum R_o}
        = \frac{1}{\sum R_t} \Big( R_d - R_o \frac{\sum R_d}{\sum R_o} \Big)

What is propagated is :math:`R_d`, with c such that it starts from a total of 0: maps of t and of the others are nearly
equal, and their difference in float32 would have a thousand times the rounding error. Starts are float64, so that this
total is kept.

The single pass of a start with both signs needs no class here: it is any rule of the LRP family with the start
``clrp``, ``sglrp`` or ``contrast``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Relevance, SharedPass
from relmap.explainers.excitation import CONTRAST, NEGATED
from relmap.explainers.plain_lrp import first_rule, with_exact_head
from relmap.propagation import Activations, Propagator, composites, starts
from relmap.propagation.rules import Bounds, Rule, Share, ZBox
from relmap.propagation.rules.base import divide, per_image_sum
from relmap.propagation.rules.precision import InDouble

Pair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# The range of ImageNet's pictures as Gu et al.'s code has it, whatever the data.
_GU_LOW, _GU_HIGH = -2.1179, 2.64


def clrp(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    start = starts.clrp(logits, targets)
    at = starts.one_hot(logits, targets)
    return start * at, start * (at - 1)


def sglrp(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """:math:`y_t (1 - y_t)` at t, and :math:`y_n / (1 - y_t)` elsewhere, whose scale does not count."""
    at = starts.one_hot(logits, targets).bool()
    z = logits.double()
    rest = z.masked_fill(at, -torch.inf)
    log_probability = z.log_softmax(1).masked_fill(~at, -torch.inf)
    log_complement = rest.logsumexp(1, keepdim=True) - z.logsumexp(1, keepdim=True)
    return (log_probability + log_complement).exp(), rest.softmax(1)


def sglrp_agf(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    start, elsewhere = sglrp(logits, targets)
    return start + 1e-8 * starts.one_hot(start, targets), elsewhere


READINGS: dict[str, Pair] = {"clrp": clrp, "sglrp": sglrp, "sglrp_agf": sglrp_agf}


def without_total(difference: Tensor, others: Tensor) -> Tensor:
    """``difference`` (K, N, ...) less so much of ``others`` that each map's total is 0."""
    return difference - others * divide(per_image_sum(difference), per_image_sum(others))


class TwoPasses(Relevance):
    """Relevance (K, N, C, H, W) of the target less that of the others at the target's total.

    Args:
        propagator: of the model.
        reading: key of ``READINGS``.
        alpha, beta, first, low, high, batch_norm: as of ``plain_lrp.LRPAlphaBeta``, without bias.
        residual: which part of the inputs of an addition shares; AGF's code passes batch norms and shares ``signed``.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        reading: str = "clrp",
        alpha: float = 1.0,
        beta: float = 0.0,
        first: Literal["z_box", "flat", "same"] = "z_box",
        low: Bounds = None,
        high: Bounds = None,
        batch_norm: Literal["fold", "pass", "alpha_beta"] = "fold",
        residual: Literal["positive", "signed", "absolute"] = "positive",
    ) -> None:
        if reading not in READINGS:
            raise InputError(f"reading {reading!r} is unknown; choose one of {', '.join(READINGS)}")
        first_layer = first_rule(first, low, high)
        composite = composites.alpha_beta(alpha, beta, first=first_layer, batch_norm=batch_norm, residual=residual)
        # Signed shares without zennit's 1e-6: AGF's code has 1e-9.
        exact = {"add": Share(residual), "average_pool": Share("signed")}
        super().__init__(propagator, with_exact_head(replace(composite, kinds={**composite.kinds, **exact})))
        self.starts = difference_and_others(READINGS[reading])

    def combined(self, passes: Sequence[Tensor]) -> Tensor:
        return without_total(*passes)


def difference_and_others(pair: Pair) -> tuple[starts.Start, starts.Start]:
    """The starts of the two passes: that of the target less so much of the others' that the total is 0; the others'."""

    @starts.of_scores
    def difference(logits: Tensor, targets: Tensor) -> Tensor:
        return without_total(*(part[None] for part in pair(logits, targets)))[0]

    @starts.of_scores
    def others(logits: Tensor, targets: Tensor) -> Tensor:
        return pair(logits, targets)[1]

    return difference, others


def _gu_first(kind: str, low: Bounds, high: Bounds) -> Rule | None:
    """``first_rule``; their own box is theirs whatever the images, which a warning says of images beyond it."""
    if low is not _GU_LOW or high is not _GU_HIGH:
        return first_rule(kind, None if low is _GU_LOW else low, None if high is _GU_HIGH else high)
    return ZBox(low, high, beyond="warn") if kind == "z_box" else first_rule(kind, None, None)


class GuCLRP(SharedPass):
    """Relevance (K, N, C, H, W) of the target less that of the others, each of total 1 (they show the positive part).

    Args:
        propagator: of the model.
        first, low, high, batch_norm: as of ``plain_lrp.LRPAlphaBeta``, without bias; their z-box by default.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        first: Literal["z_box", "flat", "same"] = "z_box",
        low: Bounds = _GU_LOW,
        high: Bounds = _GU_HIGH,
        batch_norm: Literal["fold", "pass", "alpha_beta"] = "fold",
    ) -> None:
        composite = composites.alpha_beta(first=_gu_first(first, low, high), batch_norm=batch_norm)
        self.walk = propagator.by(with_exact_head(composite))
        self.walks = (self.walk,)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        logits = activations.logits
        at, others = (starts.stacked(s, logits.double(), targets) for s in (starts.magnitude, starts.other_magnitudes))
        ratio = divide(per_image_sum(at), per_image_sum(others))
        relevance = self.walk.propagate(activations, torch.cat([at - ratio * others, others])).relevance
        return _of_total_one(*relevance.chunk(2), ratio).to(logits.dtype)


class GuNegatedCLRP(SharedPass):
    """The same less the target's relevance by negated weights of the last layer; arguments as of ``GuCLRP``."""

    def __init__(
        self,
        propagator: Propagator,
        *,
        first: Literal["z_box", "flat", "same"] = "z_box",
        low: Bounds = _GU_LOW,
        high: Bounds = _GU_HIGH,
        batch_norm: Literal["fold", "pass", "alpha_beta"] = "fold",
    ) -> None:
        composite = composites.alpha_beta(first=_gu_first(first, low, high), batch_norm=batch_norm)
        self.difference = propagator.by(composites.with_class_layer(composite, CONTRAST))
        self.negated = propagator.by(composites.with_class_layer(composite, InDouble(NEGATED)))
        self.before_last = propagator.graph.class_layer.inputs[0]
        self.walks = (self.difference, self.negated)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        start = starts.stacked(starts.magnitude, activations.logits.double(), targets)
        heads = [walk.propagate(activations, start, stop=self.before_last).relevance for walk in self.walks]
        relevance = self.difference.propagate(activations, torch.cat(heads), at=self.before_last).relevance
        return _of_total_one(*relevance.chunk(2), start.new_ones(start.shape[:2])).to(activations.logits.dtype)


def _of_total_one(difference: Tensor, others: Tensor, ratio: Tensor) -> Tensor:
    """Normalised difference of ``difference + ratio others`` and ``others``; ``ratio`` (K, N, 1 ...)."""
    ratio = ratio.view(*ratio.shape[:2], *[1] * (difference.dim() - 2))
    total = per_image_sum(difference) + ratio * per_image_sum(others)
    return divide(without_total(difference, others), total)
