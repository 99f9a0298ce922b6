"""Pictures as the networks saw them (resized, cropped), read with Pillow alone, and boxes moved along with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from relmap.errors import InputError


def _resized(width: int, height: int, resize: int) -> tuple[int, int]:
    """Width and height after the shorter side has become ``resize`` (rounded down, as torchvision does)."""
    short = min(width, height)
    return int(resize * width / short), int(resize * height / short)


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips at 255
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return picture.convert("RGB")


def _crop_origin(width: int, height: int, crop: int) -> tuple[int, int]:
    """Left and top of the centre crop (torchvision's rounding)."""
    return round((width - crop) / 2.0), round((height - crop) / 2.0)


def read_picture(path: str | os.PathLike, preprocessing: Mapping[str, Any], nearest: bool = False) -> np.ndarray:
    """Read, resize and centre-crop one image as ``relmap.data.images`` does (a test compares), without normalisation.

    That module imports torch, which takes seconds; notebooks show a few pictures only.

    Args:
        path: an image file.
        preprocessing: ``resize`` and ``crop``, in pixels (a model card's).
        nearest: keep pixel values as they are (masks, part maps) and return one channel.

    Returns:
        uint8 of shape (crop, crop, 3), or (crop, crop) with ``nearest``.

    Raises:
        InputError: the file is missing or is not a readable image.
    """
    resize, crop = int(preprocessing["resize"]), int(preprocessing["crop"])
    try:
        with Image.open(path) as file:
            file.load()
            picture = file if nearest else _as_rgb(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); fetch or render it again") from error
    width, height = _resized(*picture.size, resize)
    picture = picture.resize((width, height), Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR)
    left, top = _crop_origin(width, height, crop)
    return np.asarray(picture.crop((left, top, left + crop, top + crop)))


def move_boxes(
    boxes: Sequence[Sequence[float]], width: int, height: int, preprocessing: Mapping[str, Any]
) -> np.ndarray:
    """Boxes of the original frame in the pixels of the resized and cropped picture.

    Args:
        boxes: k boxes [x0, y0, x1, y1] in original pixels.
        width: of the original image.
        height: of the original image.
        preprocessing: ``resize`` and ``crop``.

    Returns:
        float64 of shape (k, 4), cut to the picture; a box that lies outside of it has no area.
    """
    boxes = np.asarray([list(box) for box in boxes], dtype=float).reshape(-1, 4)
    resize, crop = int(preprocessing["resize"]), int(preprocessing["crop"])
    new_width, new_height = _resized(width, height, resize)
    left, top = _crop_origin(new_width, new_height, crop)
    scale = np.array([new_width / width, new_height / height] * 2)
    return np.clip(boxes * scale - np.array([left, top, left, top]), 0, crop)


def box_area(box: Sequence[float]) -> float:
    """Area of a box [x0, y0, x1, y1] in square pixels; 0 for one without extent."""
    x0, y0, x1, y1 = box
    return max(0.0, float(x1 - x0)) * max(0.0, float(y1 - y0))
