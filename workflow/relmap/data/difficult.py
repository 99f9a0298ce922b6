"""The difficult subset of the pointing game (Zhang et al. 2016), by the rule that gives TorchRay's list of VOC 2007.

A pair of image and class is difficult exactly when

1. the class has an object that is not marked difficult,
2. another class has one too,
3. the union of all boxes of the class, marked difficult or not, covers less than a quarter of the image.

Of VOC 2007's test images that gives the 2,230 pairs in 1,467 images of the list, none false and none missing. The sum
of areas in place of their union would lose 45 pairs; leaving difficult boxes out of the area would add 40.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relmap.data.manifest import Manifest
from relmap.data.runs import area_of

SHARE = 4
"""The region takes up less than one part in so many of the image."""


def pair_flags(manifest: Manifest, row: int, area: str = "boxes") -> dict[int, tuple[bool, bool]]:
    """(counted, difficult) of every label of an image.

    Args:
        row: position in ``manifest.frame``.
        area: ``boxes``, or ``masks`` for clause 3 by the union of the boxes' masks, where all of the class have one.

    Returns:
        label -> (has a box that is not marked difficult, is in the difficult subset).
    """
    if area not in ("boxes", "masks"):
        raise ValueError(f"area {area!r}: boxes or masks")
    frame = manifest.frame
    names = ("boxes", "box_labels", "box_difficult", "box_masks")
    every = list(zip(*(frame[name].iat[row] for name in names), strict=True))
    width, height = int(frame["width"].iat[row]), int(frame["height"].iat[row])
    plain = {label for _, label, difficult, _ in every if not difficult}
    flags = {}
    for label in frame["labels"].iat[row]:
        counted = label in plain
        found = counted and len(plain) > 1
        if found:
            masks = [mask for _, owner, _, mask in every if owner == label]
            if area == "masks" and all(masks):
                covered = float(area_of(masks, width, height))
            else:
                covered = union_area([box for box, owner, *_ in every if owner == label])
            found = SHARE * covered < width * height
        flags[label] = (counted, found)
    return flags


def union_area(boxes: Sequence[Sequence[float]]) -> float:
    """Area of the union of boxes [x0, y0, x1, y1], in square pixels.

    Their edges cut the plane into cells, of which each lies in a box or outside.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    columns, rows = np.unique(corners[:, ::2]), np.unique(corners[:, 1::2])
    wide = (corners[:, :1] <= columns[:-1]) & (columns[1:] <= corners[:, 2:3])
    tall = (corners[:, 1:2] <= rows[:-1]) & (rows[1:] <= corners[:, 3:])
    inside = (tall[:, :, None] & wide[:, None, :]).any(0)
    return float(np.diff(rows) @ inside @ np.diff(columns))
