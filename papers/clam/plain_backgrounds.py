"""Mean IoU (A.5) apart on pictures with plain backgrounds and on the others.

CLAM's text says that refining hurts "especially if the given image is overly simplistic", "with a simple background"
(A.3), and measures nothing of the kind. Here a background's clutter is the mean magnitude of the picture's gradient
outside the segmentation, which is widened by a pixel so that the object's own outline does not count; the quarter of
the evaluated pictures with the least clutter are plain. Which these are follows from pictures and masks alone, so that
every method has its values on the same ones. A picture without background is neither.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from relmap.metrics.segmentation import iou_at_mean_plus_std
from torch import Tensor

from papers.clam.edges import edges_of

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

PLAIN = 0.25
# Pictures in memory at once.
PICTURES = 256


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``iou_plain`` and ``iou_cluttered``, without levels; each NaN on the other's pictures."""
    iou = iou_at_mean_plus_std(case.of(maps), case.masks).cpu().numpy()
    plain, cluttered = case.once(backgrounds)
    rows = [
        case.tidy(method, name, np.where(chosen, iou, np.nan))
        for name, chosen in (("iou_plain", plain), ("iou_cluttered", cluttered))
    ]
    return pd.concat(rows, ignore_index=True)


def backgrounds(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool: which pictures are plain, which cluttered, among those of all groups."""
    whole = case if case.among is None else replace(case, pairs=case.among, among=None)
    parts = [
        pd.Series(clutter(edges_of(part), part.masks), index=part.pairs.index)
        for group in whole.groups()
        for part in group.parts(PICTURES)
    ]
    everywhere = pd.concat(parts).sort_index()
    # Of equals the first: the order of the pictures, not of the groups, decides.
    chosen = everywhere.nsmallest(round(PLAIN * everywhere.notna().sum())).index
    own = case.pairs.index
    plain = own.isin(chosen)
    return plain, ~plain & everywhere[own].notna().to_numpy()


def clutter(edges: Tensor, masks: Tensor) -> np.ndarray:
    """Mean edge magnitude outside the object, image by image.

    Args:
        edges: (N, H, W). masks: (N, H, W) bool, the object.

    Returns:
        (N,) float64; NaN where all lies within a pixel of the object.
    """
    near = F.max_pool2d(masks.to(edges.device).float()[:, None], 3, 1, 1)[:, 0] > 0
    outside = torch.where(near, 0, edges).sum((1, 2), dtype=torch.float64) / (~near).sum((1, 2))
    return outside.cpu().numpy()
