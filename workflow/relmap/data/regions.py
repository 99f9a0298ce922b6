"""Where a class is in a picture, at the picture's own size: its instance masks, or else its boxes."""

from __future__ import annotations

import numpy as np

from relmap.data.manifest import Manifest
from relmap.data.runs import decode_runs
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
        try:
            return decode_runs(masks, width, height)
        except InputError as error:
            raise InputError(f"{manifest.resolve(manifest.frame['path'].iat[row])}: {error}") from error
    region = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in pixels_of(boxes_of(manifest, row, target)):
        region[top : bottom + 1, left : right + 1] = True
    return region


def rectangles_of(manifest: Manifest, row: int, target: int) -> np.ndarray:
    """``region_of`` as rectangles that cover it: int64 (K, 4), first column, first row, last column, last row.

    Boxes as they are, some without pixels; of masks the runs down their columns.
    """
    if not masks_of(manifest, row, target):
        return pixels_of(boxes_of(manifest, row, target))
    return column_runs(region_of(manifest, row, target))


def column_runs(region: np.ndarray) -> np.ndarray:
    """Runs of a region bool (H, W) down its columns, as rectangles (K, 4) one column wide."""
    steps = np.diff(np.pad(region, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
    columns, first = np.nonzero(steps == 1)
    _, after = np.nonzero(steps == -1)
    return np.stack([columns, first, columns, after - 1], axis=1)


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
    pairs = zip(frame[column].iat[row], frame["box_labels"].iat[row], strict=True)
    return [value for value, label in pairs if label == target]
