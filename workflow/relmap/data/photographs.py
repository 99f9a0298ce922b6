"""Someone's own photographs: which files they are, and what a network sees of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from relmap.data.decoding import as_rgb, check_resized, decode
from relmap.data.images import Preprocessing, fitted_colours
from relmap.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def find_photographs(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """The files, and those in folders and the folders below them, by name; each once.

    Raises:
        InputError: one is absent, or a folder has none.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if one.suffix.lower() in SUFFIXES and one.is_file()]
            if not inside:
                raise InputError(f"{path}: no photographs in this folder; relmap reads {', '.join(SUFFIXES)}")
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path] = None
        else:
            raise InputError(f"{path}: no such photograph or folder; correct the path")
    if not found:
        raise InputError("no photographs: give files or folders")
    return list(found)


def short_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The file names where they tell the files apart, else the paths."""
    names = tuple(path.name for path in paths)
    return names if len(set(names)) == len(names) else tuple(path.as_posix() for path in paths)


def read_photograph(path: str | os.PathLike, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[int, int]]:
    """What a network sees of a photograph, before normalisation, upright as its camera says.

    Data sets are read as stored (:mod:`relmap.data.images`), because their annotations refer to that; a photograph
    from a telephone lies on its side without its orientation.

    Returns:
        (H, W, 3) uint8, and (height, width) of the upright photograph.

    Raises:
        InputError: the file is absent or no image, or too large once it is resized.
    """
    upright = as_rgb(ImageOps.exif_transpose(decode(path)), path)
    check_resized(path, *preprocessing.resized(*upright.size))
    return fitted_colours(upright, preprocessing), (upright.height, upright.width)


def read_mask(path: str | os.PathLike, preprocessing: Preprocessing, size: tuple[int, int]) -> np.ndarray:
    """Where a mask of a photograph is not 0, on what the network sees: bool (H, W).

    Args:
        path: an image file.
        preprocessing: as the photograph was read.
        size: height and width of the upright photograph.

    Raises:
        InputError: the file is absent or no image, or has another size.
    """
    mask = decode(path)
    if mask.size != size[::-1]:
        raise InputError(
            f"{path}: the mask has {mask.width} x {mask.height} pixels, its photograph {size[1]} x {size[0]}; "
            "give one of the same size"
        )
    values = np.asarray(mask)
    inside = Image.fromarray((values.max(2) if values.ndim == 3 else values) > 0)
    (left, top), (width, height) = preprocessing.corner(*mask.size), preprocessing.seen(*mask.size)
    resized = inside.resize(preprocessing.resized(*mask.size), Image.Resampling.NEAREST)
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def boxes_seen(
    boxes: Sequence[Sequence[float]], preprocessing: Preprocessing, size: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Where boxes [x0, y0, x1, y1] of a photograph lie on what the network sees: bool (H, W), a pixel by its centre."""
    height, width = (np.full(len(boxes), side) for side in size)
    x0, y0, x1, y1 = preprocessing.map_boxes(np.asarray(boxes, dtype=np.float64), width, height).T[..., None]
    down, across = (np.arange(side) + 0.5 for side in shape)
    lines, columns = (down >= y0) & (down < y1), (across >= x0) & (across < x1)
    return (lines[:, :, None] & columns[:, None, :]).any(0)
