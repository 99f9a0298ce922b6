r"""Sub-features at the most relevant positions (CLAM, Eq. 1).

.. math:: (x_i, y_i)_{i=1}^N = \mathrm{top}_N\, \mathrm{AvgPool}_P\big(\max_c R^{(l)}_c\big), \qquad
    S_i = F^{(l)}[:, x_i : x_i + P, y_i : y_i + P]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def top_positions(relevance: Tensor, patch: int, count: int) -> Tensor:
    """Upper left corners of the ``count`` patches with the most pooled relevance, best first.

    Args:
        relevance: (M, D, H, W).

    Returns:
        (M, count, 2) rows and columns.
    """
    pooled = F.avg_pool2d(relevance.amax(1, keepdim=True), patch, 1).squeeze(1)
    columns = pooled.shape[2]
    # A stable descending sort, for top-k leaves the order of ties to the device.
    best = pooled.flatten(1).sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.stack([best // columns, best % columns], 2)


def gather_patches(features: Tensor, positions: Tensor, patch: int) -> Tensor:
    """Patches of (M, D, H, W) features at (M, N, 2) upper left corners: (M, N, D, P, P)."""
    offsets = torch.arange(patch, device=features.device)
    rows = positions[..., 0, None, None] + offsets[:, None]
    columns = positions[..., 1, None, None] + offsets
    images = torch.arange(len(features), device=features.device)[:, None, None, None]
    return features[images, :, rows, columns].permute(0, 1, 4, 2, 3)
