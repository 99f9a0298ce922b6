"""Mean IoU of a thresholded map with the object's segmentation (CLAM, Appendix A.5, after Lee et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relmap.metrics.checks import as_mask, as_relevance

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

# Of a map's largest magnitude: the threshold is a rounded number, and a pixel that equals it does not exceed it.
_ROUNDING = 1e-12


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``iou``, without levels."""
    return case.tidy(method, "iou", iou_at_mean_plus_std(case.of(maps), case.masks))


def iou_at_mean_plus_std(maps: Tensor, masks: Tensor) -> Tensor:
    """IoU of {R > mean(R) + std(R)} with the mask, image by image.

    Mean and (population) standard deviation run over the image's pixels; signed maps are taken as they are. A constant
    map selects nothing.

    Args:
        maps: (N, H, W) relevance.
        masks: (N, H, W) bool, or 0 and 1: the object.

    Returns:
        (N,) float64; 0 where nothing is selected that the mask holds, also where both are empty.

    Raises:
        ValueError: shapes differ.
        InputError: a map that is not finite, or a mask with other values.
    """
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must both be (N, H, W)")
    flat = as_relevance(maps).flatten(1).double()
    std, mean = torch.std_mean(flat, dim=1, correction=0, keepdim=True)
    selected = flat > mean + std + _ROUNDING * flat.abs().amax(1, keepdim=True)
    objects = as_mask(masks, "masks").to(maps.device).flatten(1)
    intersection = (selected & objects).sum(1)
    union = (selected | objects).sum(1)
    return intersection.double() / union.clamp(min=1)
