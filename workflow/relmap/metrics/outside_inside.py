r"""The outside-inside ratio (AE, Eq. 14): mean relevance outside the object's segmentation over that inside.

.. math:: \mu = \frac{\frac1{|P_{out}|} \sum_{q \in P_{out}} N(R_q)}{\frac1{|P_{in}|} \sum_{p \in P_{in}} N(R_p)}

N brings a map to [0, 1] by its own minimum and maximum. Lower is better.

Two kinds of maps have no ratio by this, and a metric gives a miss a number. A constant map does not tell outside from
inside: 1. A map that is at its minimum everywhere inside would have infinity: the mean inside counts as at least
1 / (H W), as if one pixel's worth of relevance were spread over the picture. Some pixel outside is then 1, so that such
a map has more than 1, the worse the more lies outside, at most H W. A mask that is empty, or the whole picture, gives
no answer: NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relmap.metrics.checks import as_mask
from relmap.metrics.scaling import to_unit

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``outside_inside_ratio``, without levels."""
    ratio = outside_inside(case.of(maps).to(case.device), case.masks)
    return case.tidy(method, "outside_inside_ratio", ratio)


def outside_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Eq. 14, image by image.

    Args:
        maps: (N, H, W) relevance, signed.
        masks: (N, H, W) bool, or 0 and 1: the object.

    Returns:
        (N,) float64; NaN where a mask has no inside or no outside.

    Raises:
        ValueError: shapes differ.
        InputError: a map that is not finite, or a mask with other values.
    """
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must both be (N, H, W)")
    scaled = to_unit(maps).flatten(1)
    inside = as_mask(masks, "masks").to(maps.device).flatten(1)
    # 0 / 0 for a mask without one of the two sides.
    within = torch.where(inside, scaled, 0).sum(1) / inside.sum(1)
    without = torch.where(inside, 0, scaled).sum(1) / (~inside).sum(1)
    return without / within.clamp(min=1 / scaled.shape[1])
