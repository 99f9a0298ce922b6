"""Maps small enough for a page: strips of tiles in few colours, and outlines of what was annotated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from relmap.figures.colours import as_pixels, tint
from relmap.figures.overlays import scaled

INDEX = "index.json"  # what a gallery's folder says of itself
SIDE = 80  # pixels of a tile's longer side at most; smaller maps stay as they are
LEVELS = 31  # of each scale; odd, so that zero is one of them

GAP = 1  # white lines below each tile, so that a browser's rounding shows nothing of the next

# Noise is what a PNG holds worst: a palette of few levels makes a tile a quarter as large as one of all colours.
_STEPS = np.linspace(0, 1, LEVELS)
_PALETTE = as_pixels(np.concatenate([tint(2 * _STEPS - 1), tint(_STEPS, signed=False)]))


def reduced_size(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """Height and width with the longer side at most ``side``."""
    factor = min(1.0, side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def tile(values: np.ndarray, signed: bool) -> np.ndarray:
    """A map's levels as places in the strip's palette.

    Args:
        values: (H, W). Larger maps are averaged down first.
        signed: two signs around zero, or sizes from zero on.

    Returns:
        uint8 of at most ``SIDE`` by ``SIDE``.
    """
    height, width = reduced_size(*values.shape)
    small = np.asarray(values, dtype=np.float32)
    if small.shape != (height, width):
        small = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BOX))
    level = scaled(small)
    shares = 0.5 + 0.5 * level if signed else np.clip(level, 0, 1)
    return np.round(shares * (LEVELS - 1)).astype(np.uint8) + np.uint8(0 if signed else LEVELS)


def strip(tiles: Sequence[np.ndarray]) -> Image.Image:
    """Tiles of one size, one below the other with a gap after each, as a picture with a palette."""
    gap = np.full((GAP, tiles[0].shape[1]), LEVELS, dtype=np.uint8)
    picture = Image.fromarray(np.concatenate([part for one in tiles for part in (one, gap)]), mode="P")
    picture.putpalette(_PALETTE.tobytes(), "RGB")
    return picture


def outline_of_mask(mask: np.ndarray) -> str:
    """The edges between a mask's pixels, (H, W), and what is outside, as an SVG path in pixels."""
    inside = np.pad(np.asarray(mask, dtype=bool), 1)
    lines = [f"M{start} {at}H{end}" for at, start, end in _runs(inside[1:, 1:-1] != inside[:-1, 1:-1])]
    lines += [f"M{at} {start}V{end}" for at, start, end in _runs((inside[1:-1, 1:] != inside[1:-1, :-1]).T)]
    return "".join(lines)


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """Line, start and end of every run of edges along the second axis."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (at, starts), (_, ends) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    return list(zip(at.tolist(), starts.tolist(), ends.tolist(), strict=True))


def outline_of_boxes(boxes: np.ndarray) -> str:
    """Boxes, (k, 4) of [x0, y0, x1, y1] in pixels, as an SVG path; those without area are left out."""
    drawn = [box for box in np.asarray(boxes, dtype=float).reshape(-1, 4) if box[2] > box[0] and box[3] > box[1]]
    return "".join("M{:.4g} {:.4g}H{:.4g}V{:.4g}H{:.4g}Z".format(*box, box[0]) for box in drawn)
