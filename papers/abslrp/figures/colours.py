"""Maps as the paper shows them: their positive parts on white."""

from __future__ import annotations

import numpy as np
from relmap.figures.colours import as_pixels, tint
from relmap.figures.overlays import CLIP_PERCENTILE, scaled

NOTE = (
    f"Red: relevance for the class, darkest at its {CLIP_PERCENTILE:g}th percentile; relevance against it is not shown."
)
_FRAME = (255, 140, 0)


def tinted(levels: np.ndarray) -> np.ndarray:
    """Levels from -1 to 1, blue over white and red to dark red: (H, W) to uint8 (H, W, 3)."""
    return as_pixels(tint(levels))


def signed(values: np.ndarray) -> np.ndarray:
    """A signed map (H, W), red where positive and white at 0: uint8 (H, W, 3)."""
    return tinted(scaled(values))


def positive(values: np.ndarray) -> np.ndarray:
    """The positive part of a map (H, W), from white over red to dark red: uint8 (H, W, 3)."""
    return signed(np.clip(values, 0, None))


def framed(picture: np.ndarray, quadrant: int) -> np.ndarray:
    """A picture with a frame inside one of its quadrants, numbered by rows."""
    found = picture.copy()
    height, width = (side // 2 for side in picture.shape[:2])
    top, left = quadrant // 2 * height, quadrant % 2 * width
    bottom, right = (picture.shape[0] if top else height), (picture.shape[1] if left else width)
    line = max(1, min(height, width) // 30)
    inside = np.zeros(picture.shape[:2], dtype=bool)
    inside[top:bottom, left:right] = True
    inside[top + line : bottom - line, left + line : right - line] = False
    found[inside] = _FRAME
    return found
