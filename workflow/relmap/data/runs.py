"""Masks as run lengths, COCO's way: ascii ``counts`` of a mask of known size (Lin et al., 2014; pycocotools)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco

from relmap.errors import InputError


def encode_mask(mask: np.ndarray) -> str:
    """The counts of a bool mask (H, W)."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode_runs(counts: str | Sequence[str], width: int, height: int) -> np.ndarray:
    """The union of masks: bool (height, width).

    Raises:
        InputError: a code is none of a mask of this size; pycocotools would read beyond it.
    """
    counts = [counts] if isinstance(counts, str) else list(counts)
    return np.logical_or.reduce([_decoded(one, width, height) for one in counts])


def _decoded(code: str, width: int, height: int) -> np.ndarray:
    try:
        mask = coco.decode({"size": [height, width], "counts": code.encode("ascii")}).astype(bool)
    except (ValueError, TypeError):
        mask = None
    if mask is None or encode_mask(mask) != code:
        raise InputError(f"a mask is no run-length code of {width} x {height} pixels; make the manifest again")
    return mask


def area_of(counts: Sequence[str], width: int, height: int) -> int:
    """Pixels in the union of masks of one size."""
    return int(coco.area(_merged(counts, width, height))) if counts else 0


def _merged(counts: Sequence[str], width: int, height: int) -> dict:
    return coco.merge([{"size": [height, width], "counts": one.encode("ascii")} for one in counts])
