r"""The pointing game (Zhang et al. 2018), as TorchRay plays it.

A map is resized bilinearly to the picture's original size, and points at its maximum, the first one in raster order. It
hits if a pixel of the class's region lies within ``radius`` of that point: squared distance < radius^2, strictly, so
that radius 1 asks for the very pixel. On photographs the radius is 15 pixels whatever their size; on other pictures it
is as large a part of the shorter side as 15 is of 500.

A map of a centre crop is laid where the crop was, to the nearest pixel. Where a map is flat at its top, as a constant
one is everywhere and an enlarged class activation map along the picture's edge, rounding alone parts the pixels, and
another batch would part them otherwise: what lies within a millionth of the maximum counts as equal to it.

Rows, 1 for a hit and 0 for a miss: ``pointing_game``; ``pointing_game_radius0``, of radius 1;
``pointing_game_with_absent``, in which a class that is predicted but absent is a miss. NaN, for all methods: the class
is absent, or all of its boxes are marked difficult.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.metrics.checks import as_relevance

if TYPE_CHECKING:
    from relmap.data.images import Preprocessing
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

RADIUS = 15.0
"""In pixels of a photograph."""
REFERENCE_SIDE = 500
"""Shorter side of the picture that 15 pixels are meant for."""

# Of the maximum: some units in the last place of a map in single precision, which an explainer may have enlarged.
_ROUNDING = 1e-6
# Pixels of resized maps held at once.
_PIXELS_AT_ONCE = 1 << 24


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``pointing_game``, ``pointing_game_radius0`` and ``pointing_game_with_absent``, without levels."""
    answered = "present and counted"
    part = case.where(answered)
    points = points_in_pictures(part.of(maps).to(case.device), part.picture_sizes, case.preprocessing)
    radius = radius_of(part.picture_sizes, case.settings["pointing_game"]["radius"])
    distance = squared_distances(points, *part.regions)
    hit = case.where_else_nan(answered, (distance < radius**2).astype(float))
    at_point = case.where_else_nan(answered, (distance == 0).astype(float))
    present = case.pairs["present"].to_numpy(dtype=bool)
    rows = {
        "pointing_game": hit,
        "pointing_game_radius0": at_point,
        "pointing_game_with_absent": np.where(present, hit, 0.0),
    }
    return pd.concat([case.tidy(method, name, values) for name, values in rows.items()], ignore_index=True)


def radius_of(sizes: np.ndarray, kind: str) -> np.ndarray:
    """Radius in pixels for pictures of sizes (N, 2), (N,) float64; at least 1, the point itself.

    Args:
        sizes: heights and widths.
        kind: ``torchray``, 15 pixels, or ``scaled``, 15 / 500 of the shorter side.

    Raises:
        InputError: another kind.
    """
    if kind == "torchray":
        return np.full(len(sizes), RADIUS)
    if kind == "scaled":
        return np.maximum(RADIUS / REFERENCE_SIDE * sizes.min(axis=1), 1.0)
    raise InputError(f"config: `evaluation.pointing_game.radius` is {kind!r}; choose torchray or scaled")


def points_in_pictures(maps: Tensor, sizes: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Where maps point in their pictures: (N, 2) int64, column and row.

    Args:
        maps: (N, h, w), each of what the network saw of its picture.
        sizes: (N, 2) heights and widths of the pictures.
        preprocessing: how the network came to see them.
    """
    points = np.empty((len(maps), 2), dtype=np.int64)
    for (height, width), places in by_picture_size(sizes):
        left, top, right, bottom = place_seen(preprocessing, width, height, maps.shape[1:])
        found = points_of(maps[torch.from_numpy(places).to(maps.device)], bottom - top, right - left)
        points[places] = found.cpu().numpy() + np.array([left, top])
    return points


def points_of(maps: Tensor, height: int, width: int) -> Tensor:
    """The first maximum of maps (N, h, w) resized to height x width: (N, 2) int64, column and row.

    Raises:
        InputError: a map is not finite.
    """
    maps = as_relevance(maps)
    flat = torch.empty(len(maps), dtype=torch.int64, device=maps.device)
    rows = max(1, _PIXELS_AT_ONCE // (height * width))
    for some, out in zip(maps.split(rows), flat.split(rows), strict=True):
        some = some.double().unsqueeze(1)
        resized = F.interpolate(some, (height, width), mode="bilinear", align_corners=False).flatten(1)
        highest = resized.amax(1, keepdim=True)
        out.copy_((resized >= highest - _ROUNDING * highest.abs()).byte().argmax(1))
    return torch.stack([flat % width, flat // width], dim=1)


def squared_distances(points: np.ndarray, rectangles: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Squared distance of points (N, 2) from their regions, (N,) float64; infinity for a region without pixels.

    Args:
        points: column and row in each picture.
        rectangles, owners: of ``Case.regions``: (K, 4) that cover the regions, and the place of each's point (K,).
    """
    distance = np.full(len(points), np.inf)
    np.minimum.at(distance, owners, from_rectangles(points[owners], rectangles))
    return distance


def from_rectangles(points: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Squared distance of each point (K, 2) from the nearest pixel of its rectangle (K, 4), (K,) float64.

    Rectangles are first column, first row, last column and last row; one without pixels is infinitely far.
    """
    first, last = rectangles[:, :2], rectangles[:, 2:]
    apart = np.maximum(np.maximum(first - points, points - last), 0).astype(np.float64)
    return np.where((last < first).any(axis=1), np.inf, (apart**2).sum(axis=1))


def by_picture_size(sizes: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Each distinct height and width, and the places of the pictures that have them."""
    distinct, which = np.unique(sizes, axis=0, return_inverse=True)
    for number, (height, width) in enumerate(distinct.tolist()):
        yield (height, width), np.flatnonzero(which.reshape(-1) == number)


def place_seen(
    preprocessing: Preprocessing, width: int, height: int, shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """What a network's input of ``shape`` shows of a picture: left, top, right and bottom, in whole pixels."""
    new_width, new_height = preprocessing.resized(width, height)
    left, top = preprocessing.corner(width, height)
    across, down = width / new_width, height / new_height
    return (
        round(left * across),
        round(top * down),
        round((left + shape[1]) * across),
        round((top + shape[0]) * down),
    )
