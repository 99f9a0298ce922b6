"""Outlines of masks as polygons along pixel edges."""

from __future__ import annotations

import numpy as np

# A step along an edge with the mask on its right hand: right, down, left, up (x, y), y down.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(mask: np.ndarray) -> list[list[int]]:
    """Outer outlines of a bool mask (H, W), one for each part that hangs together by pixels' sides.

    Holes are left out; what opens to the outside, if only by a corner, is none.

    Returns:
        [x0, y0, x1, y1, ...] of each, the corners of pixels at which it turns, in pixel edges.
    """
    edges = _edges(mask)
    polygons = []
    while edges:
        start = at = next(iter(edges))
        first = direction = next(iter(edges[start]))
        path: list[tuple[tuple[int, int], int]] = []
        while not path or (at, direction) != (start, first):
            path.append((at, direction))
            at = (at[0] + _STEPS[direction][0], at[1] + _STEPS[direction][1])
            # Where four edges meet, the sharp turn to the right stays on this part.
            direction = next(turn % 4 for turn in (direction + 1, direction, direction - 1) if turn % 4 in edges[at])
        for corner, step in path:
            edges[corner].discard(step)
            if not edges[corner]:
                del edges[corner]
        steps = [step for _, step in path]
        corners = [
            corner for (corner, step), before in zip(path, steps[-1:] + steps[:-1], strict=True) if step != before
        ]
        if _signed_area(corners) > 0:
            polygons.append([value for corner in corners for value in corner])
    return polygons


def _edges(mask: np.ndarray) -> dict[tuple[int, int], set[int]]:
    """Start of every edge between mask and background -> the directions that leave it."""
    padded = np.pad(mask.astype(bool), 1)
    inside = padded[1:-1, 1:-1]
    borders = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    # The upper side runs right from the upper left corner, and so on round the pixel.
    offsets = ((0, 0), (1, 0), (1, 1), (0, 1))
    found: dict[tuple[int, int], set[int]] = {}
    for direction, (beyond, (dx, dy)) in enumerate(zip(borders, offsets, strict=True)):
        for y, x in np.argwhere(inside & ~beyond).tolist():
            found.setdefault((x + dx, y + dy), set()).add(direction)
    return found


def _signed_area(corners: list[tuple[int, int]]) -> float:
    """Positive where the polygon runs clockwise on the screen: an outer outline."""
    x, y = np.array(corners).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
