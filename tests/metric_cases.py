"""A data set and maps in memory, as metrics are given them."""

import numpy as np
import pandas as pd
from relmap.data.images import Preprocessing
from relmap.data.manifest import COLUMNS, Manifest, ManifestInfo
from relmap.evidence.maps import Maps
from relmap.metrics.case import Case


def manifest_of(pictures, classes=4):
    """``pictures``: mappings with width, height, labels, boxes, box_labels and whatever else; ids are p0, p1, ..."""
    defaults = {"split": "test", "part_points": [], "boxes": [], "box_labels": [], "box_difficult": []}
    rows = [{**defaults, "image_id": f"p{i}", "path": f"p{i}.png", **row} for i, row in enumerate(pictures)]
    rows = [{"box_masks": [""] * len(row["boxes"]), **row} for row in rows]
    names = dict.fromkeys((*COLUMNS, *(key for row in rows for key in row)))
    frame = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})
    frame = frame.astype({"width": np.int64, "height": np.int64})
    return Manifest(frame, ManifestInfo("made", "made", "", tuple(f"class {i}" for i in range(classes))))


def case_of(pictures, pairs, maps, settings=None, preprocessing=None, **given):
    """The case of ``pairs`` (place of a picture, target, and flags that differ from present and counted), and maps."""
    manifest = manifest_of(pictures)
    flags = {"present": True, "counted": True, "predicted": True, "correct": True}
    frame = pd.DataFrame([{"image_id": f"p{i}", "target": t, **flags, **other} for i, t, other in pairs])
    stored = np.asarray(maps, np.float32)
    sizes = np.tile(stored.shape[1:], (len(stored), 1))
    stored = Maps(stored, frame["image_id"].tolist(), frame["target"].to_numpy(np.int64), sizes, {})
    side = stored.maps.shape[2]
    seen = preprocessing or Preprocessing(side, side, fit="squash")
    return Case(manifest, frame, seen, settings or {}, **given), stored


def values_of(rows, name):
    """The values of one name's rows, in order."""
    return rows[rows["metric"] == name]["value"].tolist()
