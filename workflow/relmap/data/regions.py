"""Where a class is in a picture, at the picture's own size: its instance masks, or else its boxes."""

from __future__ import annotations

import numpy as np

from relmap.data.manifest import Manifest
from relmap.errors import InputError


def region_of(manifest: Manifest, row: int, target: int) -> np.ndarray:
    """Pixels of a class in a picture, bool (height, width).

    The union of the class's instance masks where it has any, as COCO has them, crowds included; else of its boxes,
    difficult ones included, as for PASCAL VOC (Zhang et al. 2018, as in TorchRay).

    Raises:
        InputError: the picture has neither a mask nor a box of the class, or a mask that is none of this picture.
    """
    height, width = int(manifest.frame["height"].iat[row]), int(manifest.frame["width"].iat[row])
    masks = masks_of(manifest, row, target)
    if masks:
        return _decoded(manifest, row, masks, height, width)
    region = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in pixels_of(boxes_of(manifest, row, target)):
        region[top : bottom + 1, left : right + 1] = True
    return region


def boxes_of(manifest: Manifest, row: int, target: int) -> np.ndarray:
    """Boxes of a class in a picture, float64 (K, 4): x0, y0, x1, y1 in continuous pixel edges.

    Raises:
        InputError: there is none.
    """
    own = _of_class(manifest, row, target, "boxes")
    if not own:
        frame = manifest.frame
        raise InputError(
            f"{manifest.resolve(frame['path'].iat[row])}: no box and no mask of class "
            f"{manifest.info.class_names[target]!r}; add its annotation, or leave the pair out"
        )
    return np.array(own, dtype=np.float64)


def masks_of(manifest: Manifest, row: int, target: int) -> list[str]:
    """Run lengths, as COCO packs them, of the masks that a class's boxes in a picture have; empty without any."""
    return [mask for mask in _of_class(manifest, row, target, "box_masks") if mask]


def pixels_of(boxes: np.ndarray) -> np.ndarray:
    """First column, first row, last column and last row of the pixels whose centres lie in boxes, int64 (K, 4).

    A box between centres holds no pixel: its last column or row lies before its first.
    """
    return np.ceil(boxes - 0.5).astype(np.int64) - np.array([0, 0, 1, 1])


def _of_class(manifest: Manifest, row: int, target: int, column: str) -> list:
    frame = manifest.frame
    values = frame[column].iat[row] if column in frame else ()
    labels = frame["box_labels"].iat[row]
    return [value for value, label in zip(values, labels, strict=True) if label == target] if len(values) else []


def _decoded(manifest: Manifest, row: int, masks: list[str], height: int, width: int) -> np.ndarray:
    """The union of masks, bool (height, width)."""
    region = np.zeros(height * width, dtype=bool)
    for mask in masks:
        runs = _runs(mask)
        if (runs < 0).any() or runs.sum() != height * width:
            raise InputError(
                f"{manifest.resolve(manifest.frame['path'].iat[row])}: a mask is no run-length code of {width} x "
                f"{height} pixels; restore the annotations, and make the manifest again"
            )
        region |= np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return region.reshape(width, height).T


def _runs(code: str) -> np.ndarray:
    """Lengths of the runs of a code, down the columns, outside first; negative ones where it is none.

    COCO's packing: characters from 48 on, of five bits each, the lowest first, and a sixth for "more follows"; the last
    one's highest bit is the sign. From the fourth run on the code has the difference to the run before the last.
    """
    digits = np.array([ord(character) - 48 for character in code], dtype=np.int64)
    ends = digits & 32 == 0
    if not len(digits) or not ends[-1] or (digits < 0).any() or (digits > 63).any():
        return np.array([-1])
    last = np.flatnonzero(ends)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((digits & 31) << 5 * place, first)
    values -= np.where(digits[last] & 16, 1 << 5 * (last - first + 1), 0)
    runs = values.copy()
    runs[1::2] = values[1::2].cumsum()
    runs[2::2] = values[2::2].cumsum()
    return runs
