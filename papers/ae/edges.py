"""An object before strong edges (Figure 6): its box cut out of its picture, laid on stripes or on a chequerboard."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_PERIODS = 3  # dark and bright fields along a side, two make a period


def backgrounds(count: int, side: int, contrast: float, seed: int) -> Tensor:
    """Dark and bright fields, uint8 (count, side, side): upright stripes, level ones and chequerboards in turn."""
    dark, bright = (round(127.5 * (1 + sign * contrast)) for sign in (-1, 1))
    field = side / (2 * _PERIODS)
    shifts = np.random.default_rng(seed).uniform(0, 2 * field, (count, 2))
    found = []
    for number, (down, across) in enumerate(shifts):
        lines = ((np.arange(side) + down) // field).astype(int)[:, None]
        columns = ((np.arange(side) + across) // field).astype(int)[None, :]
        parity = (columns + 0 * lines, lines + 0 * columns, lines + columns)[number % 3] % 2
        found.append(np.where(parity == 1, bright, dark).astype(np.uint8))
    return torch.from_numpy(np.array(found).reshape(count, side, side))


def edges_of(fields: Tensor) -> Tensor:
    """Pixels beside a change of brightness to the right or below, on both of its sides: (N, H, W) to bool."""
    found = torch.zeros_like(fields, dtype=torch.bool)
    level = fields[:, :, 1:] != fields[:, :, :-1]
    upright = fields[:, 1:] != fields[:, :-1]
    found[:, :, 1:] |= level
    found[:, :, :-1] |= level
    found[:, 1:] |= upright
    found[:, :-1] |= upright
    return found


def before(pixels: Tensor, objects: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
    """Objects before backgrounds.

    Args:
        pixels: uint8 (N, 3, H, W).
        objects: bool (N, H, W), where the object is.
        fields: uint8 (N, H, W).

    Returns:
        Pictures like ``pixels``, and the background's edges outside the objects, bool (N, H, W).
    """
    pictures = torch.where(objects[:, None], pixels, fields[:, None].expand_as(pixels))
    return pictures, edges_of(fields) & ~objects
