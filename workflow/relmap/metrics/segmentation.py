"""Mean IoU of a thresholded map with the object's segmentation (CLAM, Appendix A.5, after Lee et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``iou``, without levels."""
    return case.tidy(method, "iou", iou_at_mean_plus_std(case.of(maps), case.masks))


def iou_at_mean_plus_std(maps: Tensor, masks: Tensor) -> Tensor:
    """IoU of {R > mean(R) + std(R)} with the mask, image by image.

    Mean and (population) standard deviation run over the image's pixels; signed maps are taken as they are.

    Args:
        maps: (N, H, W) relevance.
        masks: (N, H, W) bool, the object.

    Returns:
        (N,) float64; NaN where neither the map nor the mask selects a pixel.

    Raises:
        ValueError: shapes differ.
    """
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must both be (N, H, W)")
    flat = maps.flatten(1).double()
    std, mean = torch.std_mean(flat, dim=1, correction=0, keepdim=True)
    selected = flat > mean + std
    objects = masks.flatten(1)
    intersection = (selected & objects).sum(1)
    union = (selected | objects).sum(1)
    return intersection.double() / union
