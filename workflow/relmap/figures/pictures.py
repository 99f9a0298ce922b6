"""Pictures as the networks saw them (resized, cropped), read with Pillow alone, and boxes moved along with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from relmap.data.decoding import as_rgb, check_resized, decode


def _geometry(width: int, height: int, preprocessing: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Width and height after resizing, and the part (left, top, right, bottom) of it that the network sees.

    The shorter side becomes ``resize`` (the longer rounded down, as torchvision does), of which the centre is cut, or
    all is left with the fit ``aspect``; or both sides become ``resize``, with ``squash``.
    """
    resize, crop, fit = (preprocessing.get(key) for key in ("resize", "crop", "fit"))
    if fit == "squash":
        return (int(resize), int(resize)), (0, 0, int(resize), int(resize))
    short = min(width, height)
    new = int(int(resize) * width / short), int(int(resize) * height / short)
    if fit == "aspect":
        return new, (0, 0, *new)
    left, top = _crop_origin(*new, int(crop))
    return new, (left, top, left + int(crop), top + int(crop))


def _crop_origin(width: int, height: int, crop: int) -> tuple[int, int]:
    """Left and top of the centre crop (torchvision's rounding)."""
    return round((width - crop) / 2.0), round((height - crop) / 2.0)


def read_picture(path: str | os.PathLike, preprocessing: Mapping[str, Any], nearest: bool = False) -> np.ndarray:
    """Read, resize and cut one image as ``relmap.data.images`` does (a test compares), without normalisation.

    That module imports torch, which takes seconds; notebooks show a few pictures only.

    Args:
        path: an image file, or a member of ImageNet-Segmentation's.
        preprocessing: a model card's: ``resize`` and ``crop`` in pixels, ``fit``. What is shown is always antialiased.
        nearest: keep pixel values as they are (masks, part maps) and return one channel.

    Returns:
        uint8 of shape (H, W, 3), or (H, W) with ``nearest``.

    Raises:
        InputError: the file is missing or is not a readable image.
    """
    picture = decode(path) if nearest else as_rgb(decode(path), path)
    return fit(picture, preprocessing, path, nearest)


def fit(
    picture: Image.Image, preprocessing: Mapping[str, Any], path: str | os.PathLike, nearest: bool = False
) -> np.ndarray:
    """A picture that was read already, resized and cut; arguments as those of :func:`read_picture`."""
    size, seen = _geometry(*picture.size, preprocessing)
    check_resized(path, *size)
    picture = picture.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR)
    return np.asarray(picture.crop(seen))


def move_boxes(
    boxes: Sequence[Sequence[float]], width: int, height: int, preprocessing: Mapping[str, Any]
) -> np.ndarray:
    """Boxes of the original frame in the pixels of the resized and cropped picture.

    Args:
        boxes: k boxes [x0, y0, x1, y1] in original pixels.
        width: of the original image.
        height: of the original image.
        preprocessing: as in ``read_picture``.

    Returns:
        float64 of shape (k, 4), cut to the picture; a box that lies outside of it has no area.
    """
    boxes = np.asarray([list(box) for box in boxes], dtype=float).reshape(-1, 4)
    (new_width, new_height), (left, top, right, bottom) = _geometry(width, height, preprocessing)
    scale = np.array([new_width / width, new_height / height] * 2)
    return np.clip(boxes * scale - np.array([left, top] * 2), 0, [right - left, bottom - top] * 2)


def box_area(box: Sequence[float]) -> float:
    """Area of a box [x0, y0, x1, y1] in square pixels; 0 for one without extent."""
    x0, y0, x1, y1 = box
    return max(0.0, float(x1 - x0)) * max(0.0, float(y1 - y0))
