r"""Initial relevance at the logits, (N, C), for targets (N,).

With logits :math:`z`, probabilities :math:`y = \mathrm{softmax}(z)` and target :math:`t`:

- ``one_hot``: 1 at t. ``others``: 1 elsewhere. ``probability``: :math:`y_t` at t.
- ``logit``: :math:`z_t` at t. ``magnitude``: :math:`|z_t|` at t. ``sign``: 1 or -1 at t, as :math:`z_t` has it.
- ``other_magnitudes`` (Gu et al. 2018): :math:`|z_n|` elsewhere.
- ``contrast`` (absLRP, Section 3.1): 1 at t, :math:`-1/C` elsewhere.
- ``clrp`` (Gu et al. 2018, as SGLRP's authors read it): :math:`|z_t|` at t, :math:`-|z_t| / (C-1)` elsewhere.
- ``sglrp`` (Iwana et al. 2019, Eq. 8): :math:`y_t (1 - y_t)` at t, :math:`-y_t y_n` elsewhere.

**Positive means for the class, whatever the logit's sign.** Softmax does not see a number added to all logits, and real
networks give negative ones to the classes that they predict. A class layer that shares by signed contributions
:math:`x_i w_{ti} / z_t` turns a start from :math:`z_t` into :math:`x_i w_{ti}`, right for either sign. One that shares
by positive parts or by absolute values hands the start's sign on to every pixel, so it starts from 1 or
:math:`|z_t|`: authors' code that starts from :math:`z_t` there gives the map turned round where :math:`z_t < 0`.
:math:`|z_t|` and not 1, so that maps have the authors' scale; at :math:`z_t = 0` exactly it is an empty map, as
theirs is. ``towards_class`` picks the start that fits a class layer. ``sign`` is for authors' 1 before one that shares
by signed contributions: their map where :math:`z_t` is positive, theirs turned round elsewhere.

Rules that are linear in the relevance propagate a contrastive start in one pass. Its total is 0 or small, and the parts
are not: it comes in float64, in which the rules that can keep its total do so (``rules.precision``).

**Score maps**, the logits (N, C, h, w) of a fully convolutional network: a start is that of the classes' scores, and
each class's share of it is spread over its positions by their weights in its score (``network.score_maps``), so that
totals are those of the scores. ``logit`` alone is :math:`w_t(p)\, z_t(p)`, for rules that divide by the position's own
logit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.score_maps import pooled_scores, spread

Start = Callable[..., Tensor]
"""Of logits (N, C, ...) and targets (N,): initial relevance, as the logits lie."""


def of_scores(start: Start) -> Start:
    """A start that is written for scores (N, C), for score maps (N, C, ...) as well."""

    @wraps(start)
    def of_map(logits: Tensor, targets: Tensor, **options: int | None) -> Tensor:
        return spread(start(pooled_scores(logits), targets, **options), logits)

    return of_map


@of_scores
def one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    return F.one_hot(targets, logits.shape[1]).to(logits.dtype)


@of_scores
def others(logits: Tensor, targets: Tensor) -> Tensor:
    return 1 - one_hot(logits, targets)


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * logits


@of_scores
def sign(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * torch.where(logits < 0, -1, 1)


@of_scores
def magnitude(logits: Tensor, targets: Tensor) -> Tensor:
    return logit(logits, targets).abs()


@of_scores
def other_magnitudes(logits: Tensor, targets: Tensor) -> Tensor:
    return others(logits, targets) * logits.abs()


@of_scores
def probability(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * logits.softmax(1)


@of_scores
def contrast(logits: Tensor, targets: Tensor, classes: int | None = None) -> Tensor:
    """``classes``: C, the number of logits by default."""
    at = one_hot(logits, targets).double()
    return at - (1 - at) / (classes or logits.shape[1])


@of_scores
def clrp(logits: Tensor, targets: Tensor) -> Tensor:
    at = one_hot(logits, targets).double()
    return (at * logits).abs().sum(1, keepdim=True) * (at - (1 - at) / max(logits.shape[1] - 1, 1))


@of_scores
def sglrp(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - y_t is the sum of the other probabilities: confident networks leave no digits otherwise.

    Divided by its value at the target, which is a positive factor of the whole map: 1 at t, -y_n / (1 - y_t) elsewhere.
    """
    at = one_hot(logits, targets).bool()
    elsewhere = logits.double().masked_fill(at, -torch.inf).softmax(1)
    return torch.where(at, 1.0, -elsewhere)


def towards_class(signed: bool, uncounted: Tensor | None = None) -> Start:
    """The start that makes positive relevance speak for the class.

    Args:
        signed: whether the class layer shares by signed contributions.
        uncounted: its bias (C,) where the rule leaves it out: the contributions then add up to ``z_t - b_t``.
    """
    if not signed:
        return magnitude
    if uncounted is None:
        return logit
    return lambda logits, targets: logit(logits - uncounted.view(-1, *[1] * (logits.dim() - 2)), targets)


def stacked(start: Start, logits: Tensor, targets: Tensor) -> Tensor:
    """The start of K targets of each image, targets (K, N): (K, N, C)."""
    count = targets.shape[0]
    return start(logits.repeat(count, *[1] * (logits.dim() - 1)), targets.flatten()).unflatten(0, targets.shape)


STARTS: dict[str, Start] = {
    "one_hot": one_hot,
    "others": others,
    "logit": logit,
    "magnitude": magnitude,
    "sign": sign,
    "probability": probability,
    "contrast": contrast,
    "clrp": clrp,
    "sglrp": sglrp,
}
