"""A data set and maps in memory, as metrics are given them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from relmap.data.manifest import COLUMNS, Manifest, ManifestInfo
from relmap.evidence.maps import Maps
from relmap.metrics.case import Case


@dataclass(frozen=True)
class WholePicture:
    """Sees a picture squashed to ``side`` x ``side``."""

    side: int

    def resized(self, width, height):
        return self.side, self.side

    def corner(self, width, height):
        return 0, 0

    def map_boxes(self, boxes, width, height):
        return boxes * self.side / np.stack([width, height] * 2, axis=1)

    @property
    def crop(self):
        return self.side


def manifest_of(pictures, classes=4):
    """``pictures``: mappings with width, height, labels, boxes, box_labels and whatever else; ids are p0, p1, ..."""
    defaults = {"split": "test", "part_points": [], "boxes": [], "box_labels": [], "box_difficult": []}
    rows = [{**defaults, "image_id": f"p{i}", "path": f"p{i}.png", **row} for i, row in enumerate(pictures)]
    names = dict.fromkeys((*COLUMNS, *(key for row in rows for key in row)))
    frame = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})
    frame = frame.astype({"width": np.int64, "height": np.int64})
    return Manifest(frame, ManifestInfo("made", "made", "", tuple(f"class {i}" for i in range(classes))))


def case_of(pictures, pairs, maps, settings=None, preprocessing=None, **given):
    """The case of ``pairs`` (place of a picture, target, and flags that differ from present and counted), and maps."""
    manifest = manifest_of(pictures)
    flags = {"present": True, "counted": True, "predicted": True, "correct": True}
    frame = pd.DataFrame([{"image_id": f"p{i}", "target": t, **flags, **other} for i, t, other in pairs])
    stored = Maps(np.asarray(maps, np.float32), frame["image_id"].tolist(), frame["target"].to_numpy(np.int64), {})
    seen = preprocessing or WholePicture(stored.maps.shape[2])
    return Case(manifest, frame, seen, settings or {}, **given), stored


def values_of(rows, name):
    """The values of one name's rows, in order."""
    return rows[rows["metric"] == name]["value"].tolist()
