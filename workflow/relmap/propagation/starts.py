r"""Initial relevance at the logits, (N, C), for targets (N,).

With logits :math:`z`, probabilities :math:`y = \mathrm{softmax}(z)` and target :math:`t`:

- ``one_hot``: 1 at t. ``others``: 1 elsewhere. ``logit``: :math:`z_t` at t. ``probability``: :math:`y_t` at t.
- ``contrast`` (absLRP, Section 3.1): 1 at t, :math:`-1/C` elsewhere.
- ``clrp`` (Gu et al. 2018, as SGLRP's authors read it): :math:`z_t` at t, :math:`-z_t / (C-1)` elsewhere.
- ``sglrp`` (Iwana et al. 2019, Eq. 8): :math:`y_t (1 - y_t)` at t, :math:`-y_t y_n` elsewhere.

Rules that are linear in the relevance propagate a contrastive start in one pass. The logits of a fully convolutional
network, (N, C, h, w), take the start of their classes at every position.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Start = Callable[[Tensor, Tensor], Tensor]


def one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    at = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return at.view(*at.shape, *[1] * (logits.dim() - 2)).expand_as(logits)


def others(logits: Tensor, targets: Tensor) -> Tensor:
    return 1 - one_hot(logits, targets)


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * logits


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * logits.softmax(1)


def contrast(logits: Tensor, targets: Tensor) -> Tensor:
    at = one_hot(logits, targets)
    return at - (1 - at) / logits.shape[1]


def clrp(logits: Tensor, targets: Tensor) -> Tensor:
    at = one_hot(logits, targets)
    target_logit = (at * logits).sum(1, keepdim=True)
    return target_logit * (at - (1 - at) / max(logits.shape[1] - 1, 1))


def sglrp(logits: Tensor, targets: Tensor) -> Tensor:
    """In float64, with 1 - y_t as the sum of the other probabilities: confident networks leave no digits otherwise.

    Divided by its value at the target, which is a positive factor of the whole map: 1 at t, -y_n / (1 - y_t) elsewhere.
    """
    at = one_hot(logits, targets).bool()
    elsewhere = logits.double().masked_fill(at, -torch.inf).softmax(1)
    return torch.where(at, 1.0, -elsewhere).to(logits.dtype)


def stacked(start: Start, logits: Tensor, targets: Tensor) -> Tensor:
    """The start of K targets of each image, targets (K, N): (K, N, C)."""
    count = targets.shape[0]
    return start(logits.repeat(count, *[1] * (logits.dim() - 1)), targets.flatten()).unflatten(0, targets.shape)


STARTS: dict[str, Start] = {
    "one_hot": one_hot,
    "others": others,
    "logit": logit,
    "probability": probability,
    "contrast": contrast,
    "clrp": clrp,
    "sglrp": sglrp,
}
