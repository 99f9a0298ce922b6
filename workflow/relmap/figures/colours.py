"""The colours of relevance: one scale for maps of two signs, one for maps that tell sizes only.

Blue against red can be told apart with any colour vision, and their ends in grey: the blue one is the lighter.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap

from relmap.catalogue.methods import CATALOGUE

SIGNED: Colormap = LinearSegmentedColormap.from_list(
    "relevance", ["#2f7fc9", "#97c3ea", "#ffffff", "#f0745a", "#69000f"], N=257
)
"""Against the class, 0, for the class."""
UNSIGNED: Colormap = LinearSegmentedColormap.from_list("sizes", ["#ffffff", "#bcb3d8", "#6f4fa8", "#2d0a5c"], N=257)
"""0, large."""
EMPTY = "0 everywhere"
"""What is written where a map has nothing to show."""


def tint(level: np.ndarray, signed: bool = True) -> np.ndarray:
    """Levels from -1 to 1, or from 0 to 1 where a map has one sign, as colours: (H, W) to float (H, W, 3)."""
    level = np.asarray(level, dtype=float)
    return (SIGNED(0.5 + 0.5 * level) if signed else UNSIGNED(np.clip(level, 0, 1)))[..., :3]


def as_pixels(colours: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] as uint8."""
    return np.round(255 * colours).astype(np.uint8)


def is_signed(method: str) -> bool:
    """Whether a method's maps have two signs, as the catalogue says; what it does not know has, as most do."""
    return method not in CATALOGUE or CATALOGUE[method].signed
