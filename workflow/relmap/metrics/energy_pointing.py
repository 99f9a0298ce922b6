r"""The energy-based pointing game (Wang et al. 2020, Score-CAM), on pictures at their original size as UCAG plays it.

With R the positive part of the map, resized bilinearly to the picture, and B the union of the class's regions,

.. math:: E = \frac{\sum_{p \in B} N(R)_p}{\sum_p N(R)_p}, \qquad N(R) = \frac{R - \min R}{\max R - \min R}.

The range cancels; the least value, which is above 0 only where all of a map is, does not. A map whose positive part is
the same everywhere points nowhere: 0, as in the released code, a constant map's and one's without a positive pixel.

Rows ``energy_pointing``. NaN, for all methods: the class is absent, or all of its boxes are marked difficult; the
released code counts the latter as 0. Tables print the mean of the classes' means. A map of a centre crop is laid where
the crop was, and what lies outside the crop counts neither way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.metrics.checks import as_relevance
from relmap.metrics.pointing_game import by_picture_size, place_seen

if TYPE_CHECKING:
    import pandas as pd

    from relmap.data.images import Preprocessing
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

# Of the maximum: what interpolation in float64 rounds by, and more.
_ROUNDING = 1e-12
# Pixels of resized maps held at once.
_PIXELS_AT_ONCE = 1 << 23


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``energy_pointing``, without levels."""
    answered = "present and counted"
    part = case.where(answered)
    shares = energy_pointing(part.of(maps).to(case.device), part.picture_sizes, case.preprocessing, *part.regions)
    return case.tidy(method, "energy_pointing", case.where_else_nan(answered, shares))


def energy_pointing(
    maps: Tensor, sizes: np.ndarray, preprocessing: Preprocessing, rectangles: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Share of the energy inside the regions, (N,) float64.

    Args:
        maps: (N, h, w), each of what the network saw of its picture.
        sizes: (N, 2) heights and widths of the pictures.
        preprocessing: how the network came to see them.
        rectangles: (K, 4) first column, first row, last column and last row, inclusive, in the pictures; those of a
            picture may overlap.
        owners: (K,) the picture of each.

    Raises:
        InputError: a map is not finite.
    """
    maps = as_relevance(maps)
    found = np.empty(len(maps))
    for (height, width), places in by_picture_size(sizes):
        left, top, right, bottom = place_seen(preprocessing, width, height, maps.shape[1:])
        rows, columns = bottom - top, right - left
        few = max(1, _PIXELS_AT_ONCE // (rows * columns))
        for some in np.split(places, range(few, len(places), few)):
            own = np.isin(owners, some)
            shifted = rectangles[own] - np.array([left, top, left, top])
            inside = covered(shifted, np.searchsorted(some, owners[own]), (len(some), rows, columns), maps.device)
            found[some] = _shares(maps[torch.from_numpy(some).to(maps.device)], inside).cpu().numpy()
    return found


def covered(
    rectangles: np.ndarray, owners: np.ndarray, shape: tuple[int, int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Union of rectangles in each of several pictures: (N, H, W) bool.

    Args:
        rectangles: (K, 4) as of ``energy_pointing``; what lies outside the picture is cut off.
        owners: (K,) places of their pictures.
        shape: N, H and W.
        device: where to make it.
    """
    count, height, width = shape
    first = np.maximum(rectangles[:, :2], 0)
    last = np.minimum(rectangles[:, 2:], np.array([width, height]) - 1)
    some = (first <= last).all(axis=1)
    (x0, y0), (x1, y1), owner = first[some].T, last[some].T + 1, owners[some]
    # A rectangle is 1 at its first corner summed up along both axes, less what begins beyond it.
    marks = torch.zeros(count, height + 1, width + 1, dtype=torch.int32, device=device)
    for x, y, sign in ((x0, y0, 1), (x1, y0, -1), (x0, y1, -1), (x1, y1, 1)):
        at = tuple(torch.from_numpy(np.ascontiguousarray(axis, dtype=np.int64)).to(device) for axis in (owner, y, x))
        marks.index_put_(at, torch.tensor(sign, dtype=torch.int32, device=device), accumulate=True)
    return marks.cumsum(1).cumsum(2)[:, :height, :width] > 0


def _shares(maps: Tensor, inside: Tensor) -> Tensor:
    """Of maps (N, h, w) resized to their regions (N, H, W)."""
    resized = F.interpolate(maps.double().unsqueeze(1), inside.shape[1:], mode="bilinear", align_corners=False)
    positive = resized.flatten(1).clamp(min=0)
    low, high = positive.amin(1, keepdim=True), positive.amax(1, keepdim=True)
    energy = (positive - low).masked_fill(high - low <= _ROUNDING * high, 0)
    total = energy.sum(1)
    return (energy * inside.flatten(1)).sum(1) / total.masked_fill(total == 0, 1)
