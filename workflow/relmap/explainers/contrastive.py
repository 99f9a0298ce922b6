r"""Contrastive LRP in two passes: the target's relevance less that of the other classes, brought to the same total.

.. math:: R = R_t - R_o \frac{\sum R_t}{\sum R_o} \quad \text{(sums over one image's input)}

``TwoPasses`` has three readings of where the passes start, with logits z, probabilities y = softmax(z) and C classes:

- ``clrp``: :math:`z_t` at t, and :math:`z_t / (C-1)` elsewhere (as AGF's and SGLRP's authors read Gu et al. 2018);
- ``sglrp`` (Iwana et al. 2019): :math:`y_t (1 - y_t)` at t, and :math:`y_t y_n` elsewhere;
- ``sglrp_agf``: the same with 1e-8 added at t, AGF's, which decides where the network is sure.

``GuCLRP`` is the code of Gu et al.: both passes to the total 1, from :math:`|z_t|` at t, less

- ``others`` (their type 1): :math:`|z_n|` at all n but t;
- ``negated`` (their type 2): :math:`|z_t|` at t with the last layer's weights negated.

The single pass of a start with both signs needs no class here: it is any rule of the LRP family with the start
``clrp``, ``sglrp`` or ``contrast``. It is the plain difference of two passes, as the rules are linear in relevance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.explainers.excitation import contrast_layer, negated_last_layer
from relmap.propagation import Activations, Propagator, composites, starts
from relmap.propagation.rules import Rule, ZBox
from relmap.propagation.rules.base import divide

Pair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Each image's own range, for want of the data's.
IMAGE_BOX = ZBox(None, None)
# The range of ImageNet's pictures as Gu et al.'s code has it, whatever the data.
GU_BOX = ZBox((-2.1179,) * 3, (2.64,) * 3)


def clrp(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    start = starts.clrp(logits, targets)
    at = starts.one_hot(logits, targets)
    return start * at, start * (at - 1)


def _softmax_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """:math:`y_t (1 - y_t)` at t in float64, and :math:`y_n / (1 - y_t)` elsewhere, whose scale does not count."""
    at = starts.one_hot(logits, targets).bool()
    z = logits.double()
    rest = z.masked_fill(at, -torch.inf)
    log_probability = z.log_softmax(1).masked_fill(~at, -torch.inf)
    log_complement = rest.logsumexp(1, keepdim=True) - z.logsumexp(1, keepdim=True)
    return (log_probability + log_complement).exp(), rest.softmax(1).to(logits.dtype)


def sglrp(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    start, elsewhere = _softmax_gradient(logits, targets)
    return start.to(logits.dtype), elsewhere


def sglrp_agf(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    start, elsewhere = _softmax_gradient(logits, targets)
    return (start + 1e-8 * starts.one_hot(start, targets)).to(logits.dtype), elsewhere


READINGS: dict[str, Pair] = {"clrp": clrp, "sglrp": sglrp, "sglrp_agf": sglrp_agf}


def _totals(relevance: Tensor) -> Tensor:
    return relevance.sum(dim=tuple(range(2, relevance.dim())), keepdim=True)


class TwoPasses(Explainer):
    """Relevance (K, N, C, H, W) of the target less that of the others at the target's total.

    Args:
        propagator: of the model.
        reading: key of ``READINGS``.
        alpha, beta, batch_norm: of ``composites.alpha_beta``, without bias.
        first: rule of the first layer; by default z-box with each image's own range. None treats it as any other.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        reading: str = "clrp",
        alpha: float = 1.0,
        beta: float = 0.0,
        batch_norm: str = "fold",
        first: Rule | None = IMAGE_BOX,
    ) -> None:
        if reading not in READINGS:
            raise InputError(f"reading {reading!r} is unknown; choose one of {', '.join(READINGS)}")
        self.reading = READINGS[reading]
        self.walk = propagator.by(composites.alpha_beta(alpha, beta, first=first, batch_norm=batch_norm))
        self.walks = (self.walk,)

    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        pair = (starts.stacked(lambda z, t, i=i: self.reading(z, t)[i], activations.logits, targets) for i in (0, 1))
        relevance = self.walk.propagate(activations, torch.cat(tuple(pair))).relevance
        at, others = relevance.chunk(2)
        return at - others * divide(_totals(at), _totals(others))


def _magnitude(logits: Tensor, targets: Tensor) -> Tensor:
    return starts.logit(logits, targets).abs()


def _other_magnitudes(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.abs() * (1 - starts.one_hot(logits, targets))


class GuCLRP(Explainer):
    """Relevance (K, N, C, H, W) of the target less its contrast, each of total 1 (their pictures: the positive part).

    Args:
        propagator: of the model.
        contrast: ``others`` or ``negated``.
        batch_norm: of ``composites.alpha_beta``, without bias.
        first: rule of the first layer; their z-box by default.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        contrast: Literal["others", "negated"] = "others",
        batch_norm: str = "fold",
        first: Rule | None = GU_BOX,
    ) -> None:
        if contrast not in ("others", "negated"):
            raise InputError(f"contrast {contrast!r} is unknown; choose others or negated")
        composite = composites.alpha_beta(first=first, batch_norm=batch_norm)
        self.walk = propagator.by(composite)
        self.start = _other_magnitudes if contrast == "others" else _magnitude
        self.against = self.walk if contrast == "others" else propagator.by(negated_last_layer(composite))
        self.before_last = contrast_layer(propagator.graph)
        self.walks = (self.walk, self.against)

    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        """Below the last layer both passes are one."""
        heads = [
            walk.propagate(
                activations, starts.stacked(start, activations.logits, targets), stop=self.before_last
            ).relevance
            for walk, start in ((self.walk, _magnitude), (self.against, self.start))
        ]
        relevance = self.walk.propagate(activations, torch.cat(heads), at=self.before_last).relevance
        at, against = (part / _totals(part) for part in relevance.chunk(2))
        return at - against
