r"""The balanced contrastive loss (SymBa; CLAM, Eq. 4 and 5).

.. math::
    \Delta = \beta \max_i \overline{D_{p,i}} - (1 - \beta)\, \overline{D_n}, \qquad L = \log(1 + e^{\alpha \Delta})

:math:`\overline{D_{p,i}}` is the mean over windows of the distance between attribute i and the i-th positive
sub-feature; :math:`\overline{D_n}` the mean over windows, attributes and negative sub-features (each attribute against
each sub-feature, hence the paper's 1 / (W H N^2)).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def paired(distances: Tensor) -> Tensor:
    """Mean distance of attribute i from sub-feature i: (B, N sub-features, N attributes, w, w) -> (B, N)."""
    return distances.diagonal(dim1=1, dim2=2).mean((1, 2))


def balanced_contrastive_loss(
    positive: Tensor, negative: Tensor, alpha: float, beta: float, reduction: str = "max"
) -> Tensor:
    """Loss of each image, (B,).

    Args:
        positive, negative: (B, N sub-features, N attributes, w, w) distances with the right and with a wrong pattern.
        reduction: ``max`` (as printed) or ``mean`` over attributes of the positive distances.
    """
    near = paired(positive)
    near = near.amax(1) if reduction == "max" else near.mean(1)
    return F.softplus(alpha * (beta * near - (1 - beta) * negative.mean((1, 2, 3, 4))))
