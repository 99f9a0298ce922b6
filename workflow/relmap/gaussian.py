"""Gaussian filters of maps and pictures: the one that metrics and explainers share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_filter(values: Tensor, reach: int, sigma: float, border: str | None = None) -> Tensor:
    """Weighted means over windows of ``2 reach + 1`` positions a side, image by image.

    Args:
        values: (N, C, H, W).
        reach: how far from the centre the Gaussian is cut off; the weights that are left sum to 1.
        sigma: standard deviation in positions.
        border: what lies beyond, a mode of ``torch.nn.functional.pad``; without it windows lie inside only.

    Returns:
        Like ``values``, or (N, C, H - 2 reach, W - 2 reach).
    """
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    single = values.flatten(0, 1).unsqueeze(1)
    padded = single if border is None else F.pad(single, (reach,) * 4, mode=border)
    return F.conv2d(F.conv2d(padded, weights), weights.mT).squeeze(1).unflatten(0, values.shape[:2])
