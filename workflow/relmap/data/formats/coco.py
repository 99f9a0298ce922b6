"""COCO 2014 (Lin et al., ECCV 2014), real or rendered: classes, boxes and masks of instances, crowds included.

Tree: ``train2014/``, ``val2014/``, ``annotations/instances_{train,val}2014.json``. The validation images are the split
``test``. A box ``x y w h`` is in continuous edges already. Every annotation has a mask: polygons,
or a crowd's run lengths.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from relmap.data.images import read_size
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.threads import thread_map
from relmap.errors import InputError

LOG = logging.getLogger(__name__)
DATASET = "coco2014"
_SPLITS = {"train": "train2014", "test": "val2014"}
_CURE = "extract annotations_trainval2014.zip again"
_LEAST_POLYGON = 6
"""Numbers of a polygon: three corners."""


def read_coco(
    root: str | os.PathLike,
    *,
    dataset: str = DATASET,
    classes: Mapping[str, str] | None = None,
    require_training: bool = True,
    workers: int = 8,
) -> Manifest:
    """Read COCO's instances. Labels are the categories in the order of their ids (80 in the true data set).

    An image's labels are the categories of all its annotations; an image without any has none, and stays. ``box_masks``
    holds the mask of each annotation of the test split; training needs none. Mended, and counted in the log: boxes
    without width or height take up the pixels that they touch, and polygons under six numbers are left out.

    Args:
        root: folder of the tree above.
        dataset: id that the manifest gets.
        classes: none; the data set names its classes itself.
        require_training: every category must have a training image; without it the training images may be absent.
        workers: threads that read the headers of the validation images.

    Raises:
        InputError: a file is missing or no such JSON, an annotation names an image or category that is not listed, a
            picture has not its listed size, or the content fails ``build_manifest``'s checks.
    """
    if classes:
        raise InputError(f"{root}: COCO names its classes itself; remove `datasets.{dataset}.classes`")
    root = Path(root)
    mended: Counter[str] = Counter()
    rows, categories = [], {}
    for split, folder in _SPLITS.items():
        file = root / "annotations" / f"instances_{folder}.json"
        if split == "train" and not require_training and not file.is_file():
            continue
        content = _Instances(file, masks=split == "test")
        if categories and content.categories != categories:
            raise InputError(f"{file}: other categories than the training annotations; {_CURE}")
        categories = content.categories
        rows += _rows(root, folder, split, content, workers, mended)
    for what, count in sorted(mended.items()):
        LOG.warning("%s: %d %s", dataset, count, what)
    return build_manifest(
        dataset,
        root,
        rows,
        list(categories.values()),
        class_ids=[str(identifier) for identifier in categories],
        require_labels=False,
        require_training=require_training,
        workers=workers,
    )


class _Instances:
    """One JSON file: its images by id, the annotations of each, and its categories' names by id, in the ids' order."""

    def __init__(self, file: Path, masks: bool) -> None:
        self.file = file
        whole = _parse(file, masks)
        try:
            self.categories = {int(one["id"]): str(one["name"]) for one in whole["categories"]}
            self.categories = dict(sorted(self.categories.items()))
            self.images = {int(one["id"]): one for one in whole["images"]}
            self.annotations: dict[int, list[dict[str, Any]]] = {identifier: [] for identifier in self.images}
            for one in whole["annotations"]:
                image, category = int(one["image_id"]), int(one["category_id"])
                if image not in self.images:
                    raise InputError(
                        f"{file}: annotation {one['id']} is of image {image}, which is not listed; {_CURE}"
                    )
                if category not in self.categories:
                    raise InputError(
                        f"{file}: annotation {one['id']} has category {category}, which is not listed; {_CURE}"
                    )
                self.annotations[image].append(one)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file}: not COCO's table of instances ({error!r}); {_CURE}") from error


def _parse(file: Path, masks: bool) -> dict[str, Any]:
    """The JSON, its polygons as arrays, or without them: as lists of numbers they would take gigabytes."""

    def compact(value: dict[str, Any]) -> dict[str, Any]:
        if "segmentation" in value:
            segmentation = value.pop("segmentation")
            if masks:
                polygons = isinstance(segmentation, list)
                value["segmentation"] = (
                    [np.array(one, np.float64) for one in segmentation] if polygons else segmentation
                )
        return value

    try:
        with open(file, encoding="utf-8") as handle:
            whole = json.load(handle, object_hook=compact)
    except FileNotFoundError as error:
        raise InputError(f"{file}: missing; extract annotations_trainval2014.zip into {file.parent.parent}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: truncated or not JSON ({error}); {_CURE}") from error
    if not isinstance(whole, dict):
        raise InputError(f"{file}: holds no table of instances; {_CURE}")
    return whole


def _rows(
    root: Path, folder: str, split: str, content: _Instances, workers: int, mended: Counter[str]
) -> list[dict[str, Any]]:
    label_of = {identifier: label for label, identifier in enumerate(content.categories)}
    order = sorted(content.images)

    def listed(identifier: int) -> tuple[str, int, int]:
        one = content.images[identifier]
        try:
            return str(one["file_name"]), int(one["width"]), int(one["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{content.file}: image {identifier} lacks {error}; {_CURE}") from error

    def check(identifier: int) -> None:
        """A picture has its listed size; of the training images only the existence is looked at, later."""
        name, *size = listed(identifier)
        found = read_size(root / folder / name)
        if found != tuple(size):
            raise InputError(
                f"{root / folder / name}: has {found[0]} x {found[1]} pixels, but {content.file} lists {size[0]} x "
                f"{size[1]}; restore both from their archives"
            )

    if split == "test":
        thread_map(check, order, workers)
    rows = []
    for identifier in order:
        name, width, height = listed(identifier)
        found = content.annotations[identifier]
        labels = [label_of[int(one["category_id"])] for one in found]
        row = {
            "image_id": Path(name).stem,
            "path": f"{folder}/{name}",
            "split": split,
            "labels": sorted(set(labels)),
            "boxes": [_box(one, content.file, mended) for one in found],
            "box_labels": labels,
            "box_difficult": [False] * len(found),
            "width": width,
            "height": height,
        }
        if split == "test":
            row["box_masks"] = [_mask(one, width, height, content.file, mended) for one in found]
        rows.append(row)
    return rows


def _box(annotation: Mapping[str, Any], file: Path, mended: Counter[str]) -> list[float]:
    try:
        x, y, w, h = (float(value) for value in annotation["bbox"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: annotation {annotation.get('id')} has no box x, y, w, h ({error}); {_CURE}"
        ) from error
    if w < 0 or h < 0:
        mended["boxes with reversed corners, which were put in order"] += 1
        x, y, w, h = min(x, x + w), min(y, y + h), abs(w), abs(h)
    edges = [x, y, x + w, y + h]
    for axis, length in enumerate((w, h)):
        if length == 0:
            mended["boxes without width or height, which take up the pixels that they touch"] += 1
            edges[axis], edges[axis + 2] = math.floor(edges[axis]), math.floor(edges[axis]) + 1.0
    return edges


def _mask(annotation: Mapping[str, Any], width: int, height: int, file: Path, mended: Counter[str]) -> str:
    """Run lengths of an annotation's mask, the union of its polygons; "" for one that covers no pixel."""
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, list):
            polygons = [one for one in segmentation if one.size >= _LEAST_POLYGON and one.size % 2 == 0]
            if len(polygons) < len(segmentation):
                mended["polygons under six numbers, which were left out"] += len(segmentation) - len(polygons)
            runs = coco.frPyObjects([one.tolist() for one in polygons], height, width) if polygons else []
        else:
            if list(segmentation["size"]) != [height, width]:
                raise InputError(
                    f"{file}: annotation {annotation['id']} has a mask of {segmentation['size']} lines and columns, "
                    f"its image {[height, width]}; {_CURE}"
                )
            counts = segmentation["counts"]
            compressed = {"size": [height, width], "counts": counts}
            runs = [compressed if isinstance(counts, str) else coco.frPyObjects(compressed, height, width)]
            if isinstance(counts, list) and sum(counts) != height * width:
                raise ValueError(f"run lengths of {sum(counts)} pixels in a picture of {height * width}")
        merged = coco.merge(runs) if runs else None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{file}: annotation {annotation.get('id')} has no readable mask ({error}); {_CURE}"
        ) from error
    if merged is None or not coco.area(merged):
        mended["annotations whose mask covers no pixel, which have their box alone"] += 1
        return ""
    return merged["counts"].decode("ascii")
