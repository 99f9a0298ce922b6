"""Masks as run lengths, COCO's way: ascii ``counts`` of a mask of known size (Lin et al., 2014; pycocotools)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco

from relmap.errors import InputError


def encode_mask(mask: np.ndarray) -> str:
    """The counts of a bool mask (H, W)."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def runs_of(code: str) -> list[int]:
    """Run lengths of an ascii code: groups of five bits, low ones first, as differences to the run before the last.

    Raises:
        ValueError: a character that is none of the code's, or an end within a number.
    """
    runs, value, shift = [], 0, 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is no character of a run-length code")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits >> 4) << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("a run-length code ends within a number")
    return runs


def code_of(runs: Sequence[int], width: int, height: int) -> str:
    """The counts of a mask that is given by runs down its columns, of pixels outside and inside by turns.

    Raises:
        ValueError: runs that are no whole numbers from 0, or not as many pixels as the picture.
    """
    if not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("run lengths are not all whole numbers from 0")
    if sum(runs) != height * width:
        raise ValueError(f"run lengths of {sum(runs)} pixels in a picture of {height * width}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return encode_mask(inside.reshape(width, height).T)


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
