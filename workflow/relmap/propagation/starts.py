r"""Initial relevance at the logits, (N, C), for targets (N,).

With logits :math:`z`, probabilities :math:`y = \mathrm{softmax}(z)` and target :math:`t`:

- ``one_hot``: 1 at t. ``logit``: :math:`z_t` at t. ``probability``: :math:`y_t` at t.
- ``clrp`` (Gu et al. 2018, as SGLRP's authors read it): :math:`z_t` at t, :math:`-z_t / (C-1)` elsewhere.
- ``sglrp`` (Iwana et al. 2019, Eq. 8): :math:`y_t (1 - y_t)` at t, :math:`-y_t y_n` elsewhere.

Rules that are linear in the relevance propagate a contrastive start in one pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    return F.one_hot(targets, logits.shape[1]).to(logits.dtype)


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * logits


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    return one_hot(logits, targets) * logits.softmax(1)


def clrp(logits: Tensor, targets: Tensor) -> Tensor:
    at = one_hot(logits, targets)
    target_logit = logits.gather(1, targets[:, None])
    return target_logit * (at - (1 - at) / (logits.shape[1] - 1))


def sglrp(logits: Tensor, targets: Tensor) -> Tensor:
    """In float64, with 1 - y_t as the sum of the other probabilities: confident networks leave no digits otherwise.

    Divided by its value at the target, which is a positive factor of the whole map: 1 at t, -y_n / (1 - y_t) elsewhere.
    """
    at = F.one_hot(targets, logits.shape[1]).bool()
    others = logits.double().masked_fill(at, -torch.inf).softmax(1)
    return torch.where(at, 1.0, -others).to(logits.dtype)


STARTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one_hot": one_hot,
    "logit": logit,
    "probability": probability,
    "clrp": clrp,
    "sglrp": sglrp,
}
