r"""The balanced contrastive loss (SymBa; CLAM, Eq. 4 and 5).

.. math::
    \Delta = \beta\, r(\overline{D_p}) - (1 - \beta)\, \overline{D_n}, \qquad L = \log(1 + e^{\alpha \Delta})

:math:`\overline{D_n}` is the mean over windows, attributes and negative sub-features (each attribute against each
sub-feature, hence the paper's 1 / (W H N^2)). Of the positive distances Eq. 4 prints
:math:`\max(\frac{1}{NWH} \sum_i \sum_{w,h} D_{(p,i),w,h,:})`, which leaves open what i and the colon run over:

- ``max``: the maximum over i of the mean distance of attribute i from the i-th sub-feature;
- ``mean``: the mean of these;
- ``max_of_sums``, to the letter: the maximum over attributes of the mean distance from all sub-features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def paired(distances: Tensor) -> Tensor:
    """Mean distance of attribute i from sub-feature i: (B, N sub-features, N attributes, w, w) -> (B, N)."""
    return distances.diagonal(dim1=1, dim2=2).mean((1, 2))


POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda distances: paired(distances).amax(1),
    "mean": lambda distances: paired(distances).mean(1),
    "max_of_sums": lambda distances: distances.mean((1, 3, 4)).amax(1),
}
"""Readings of the positive part: (B, N sub-features, N attributes, w, w) -> (B,)."""


def balanced_contrastive_loss(
    positive: Tensor, negative: Tensor, alpha: float, beta: float, reduction: str = "max"
) -> Tensor:
    """Loss of each image, (B,).

    Args:
        positive, negative: (B, N sub-features, N attributes, w, w) distances with the right and with a wrong pattern.
        reduction: key of ``POSITIVE``.
    """
    near, far = POSITIVE[reduction](positive), negative.mean((1, 2, 3, 4))
    return F.softplus(alpha * (beta * near - (1 - beta) * far))
