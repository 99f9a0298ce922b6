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
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from relmap.data.decoding import read_size
from relmap.data.listing import Exclusion, inside
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.runs import area_of, code_of, runs_of
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
    exclude: Collection[str] = (),
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
        exclude: ids of images to leave out; nothing of theirs is read.
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
    left_out = Exclusion(dataset, exclude)
    contents, categories = {}, {}
    for split, folder in _SPLITS.items():
        file = root / "annotations" / f"instances_{folder}.json"
        if split == "train" and not require_training and not file.is_file():
            continue
        contents[split] = content = _Instances(file, left_out, masks=split == "test")
        if categories and content.categories != categories:
            raise InputError(f"{file}: other categories than the training annotations; {_CURE}")
        categories = content.categories
    left_out.check()
    rows = []
    for split, content in contents.items():
        rows += _rows(root, _SPLITS[split], split, content, workers, mended)
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

    def __init__(self, file: Path, left_out: Exclusion, masks: bool) -> None:
        self.file, self.left_out = file, left_out
        whole = _parse(file, masks)
        try:
            categories = self._by_id(whole["categories"], "category")
            self.categories = {identifier: str(one["name"]) for identifier, one in sorted(categories.items())}
            listed = self._by_id(whole["images"], "image")
            self.images = {
                identifier: one for identifier, one in listed.items() if left_out.keeps(self._name(one, identifier))
            }
            self.annotations: dict[int, list[dict[str, Any]]] = {identifier: [] for identifier in self.images}
            for identifier, one in self._by_id(whole["annotations"], "annotation").items():
                image = _whole(one["image_id"])
                if image not in listed:
                    raise InputError(
                        f"{file}: annotation {identifier} is of image {image}, which is not listed; {_CURE}"
                    )
                if image not in self.images:
                    continue
                with self.about(image):
                    category = _category(one)
                    if category not in self.categories:
                        raise InputError(
                            f"{file}: annotation {identifier} has category {category}, which is not listed; {_CURE}"
                        )
                self.annotations[image].append(one)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file}: not COCO's table of instances ({error!r}); {_CURE}") from error
        for what, held in (("image", self.images), ("category", self.categories)):
            if not held:
                raise InputError(f"{file}: lists no {what}; {_CURE}")

    def about(self, identifier: int) -> AbstractContextManager[None]:
        """Errors of the block are about one image."""
        return self.left_out.about(self._name(self.images[identifier], identifier))

    def _name(self, image: Mapping[str, Any], identifier: int) -> str:
        """Its id in the manifest; where it has no file, its number, so that it can be left out too."""
        return Path(str(image.get("file_name", identifier))).stem

    def _by_id(self, entries: list[dict[str, Any]], what: str) -> dict[int, dict[str, Any]]:
        """A list's entries by their ids; two with one id would hide each other."""
        found: dict[int, dict[str, Any]] = {}
        for one in entries:
            identifier = _whole(one["id"])
            if identifier in found:
                raise InputError(f"{self.file}: lists {what} {identifier} twice; {_CURE}")
            found[identifier] = one
        return found


def _whole(value: Any) -> int:
    """An id. Raises ValueError or TypeError where it is no whole number."""
    if int(value) != float(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _category(annotation: Mapping[str, Any]) -> int | None:
    """The id of an annotation's category, None where it has none."""
    try:
        return _whole(annotation["category_id"])
    except (KeyError, TypeError, ValueError):
        return None


def _parse(file: Path, masks: bool) -> dict[str, Any]:
    """The JSON, its polygons as arrays, or without them: as lists of numbers they would take gigabytes."""

    def compact(value: dict[str, Any]) -> dict[str, Any]:
        if "segmentation" in value:
            segmentation = value.pop("segmentation")
            if masks:
                polygons = isinstance(segmentation, list)
                value["segmentation"] = [_as_array(one) for one in segmentation] if polygons else segmentation
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


def _as_array(polygon: Any) -> Any:
    """A list of numbers as an array; what is none stays as it is, for :func:`_corners` to refuse."""
    try:
        return np.array(polygon, np.float64)
    except (TypeError, ValueError):
        return polygon


def _rows(
    root: Path, folder: str, split: str, content: _Instances, workers: int, mended: Counter[str]
) -> list[dict[str, Any]]:
    label_of = {identifier: label for label, identifier in enumerate(content.categories)}
    order = sorted(content.images)

    def listed(identifier: int) -> tuple[str, int, int]:
        one = content.images[identifier]
        try:
            return inside(str(one["file_name"]), content.file), int(one["width"]), int(one["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{content.file}: image {identifier} lacks {error}; {_CURE}") from error

    def check(identifier: int) -> None:
        """A picture has its listed size; of the training images only the existence is looked at, later."""
        with content.about(identifier):
            name, *size = listed(identifier)
            found = read_size(root / folder / name)
            if found != tuple(size):
                raise InputError(
                    f"{root / folder / name}: has {found[0]} x {found[1]} pixels, but {content.file} lists {size[0]} x "
                    f"{size[1]}; restore both from their archives"
                )

    if split == "test":
        thread_map(check, order, workers)

    def row_of(identifier: int) -> dict[str, Any]:
        name, width, height = listed(identifier)
        found = content.annotations[identifier]
        labels = [label_of[_whole(one["category_id"])] for one in found]
        row = {
            "image_id": Path(name).stem,
            "path": f"{folder}/{name}",
            "split": split,
            "labels": sorted(set(labels)),
            "boxes": [_box(one, width, height, content.file, mended) for one in found],
            "box_labels": labels,
            "box_difficult": [False] * len(found),
            "width": width,
            "height": height,
        }
        if split == "test":
            row["box_masks"] = [_mask(one, width, height, content.file, mended) for one in found]
        return row

    rows = []
    for identifier in order:
        with content.about(identifier):
            rows.append(row_of(identifier))
    return rows


def _box(annotation: Mapping[str, Any], width: int, height: int, file: Path, mended: Counter[str]) -> list[float]:
    try:
        x, y, w, h = (float(value) for value in annotation["bbox"])
        if not all(map(math.isfinite, (x, y, w, h))):
            raise ValueError("NaN or infinity")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: annotation {annotation.get('id')} has no box x, y, w, h ({error}); {_CURE}"
        ) from error
    if w < 0 or h < 0:
        mended["boxes with reversed corners, which were put in order"] += 1
        x, y, w, h = min(x, x + w), min(y, y + h), abs(w), abs(h)
    edges = [x, y, x + w, y + h]
    for axis, (length, side) in enumerate(((w, width), (h, height))):
        if length == 0:
            mended["boxes without width or height, which take up the pixels that they touch"] += 1
            # The picture's own last edge touches its last pixel.
            pixel = math.floor(edges[axis]) - (edges[axis] == side)
            edges[axis], edges[axis + 2] = float(pixel), pixel + 1.0
    return edges


def _mask(annotation: Mapping[str, Any], width: int, height: int, file: Path, mended: Counter[str]) -> str:
    """Run lengths of an annotation's mask, the union of its polygons; "" for one that covers no pixel."""
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, list):
            counts = _of_polygons(segmentation, width, height, mended)
        else:
            if list(segmentation["size"]) != [height, width]:
                raise InputError(
                    f"{file}: annotation {annotation['id']} has a mask of {segmentation['size']} lines and columns, "
                    f"its image {[height, width]}; {_CURE}"
                )
            counts = segmentation["counts"]
            counts = code_of(runs_of(counts) if isinstance(counts, str) else counts, width, height)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: annotation {annotation.get('id')} has no readable mask ({error}); {_CURE}"
        ) from error
    if not area_of([counts] if counts else [], width, height):
        mended["annotations whose mask covers no pixel, which have their box alone"] += 1
        return ""
    return counts


def _of_polygons(polygons: list[Any], width: int, height: int, mended: Counter[str]) -> str:
    """Run lengths of the union of polygons; "" without any. Raises ValueError as :func:`_corners`."""
    corners = [_corners(one, width, height) for one in polygons]
    whole = [one.tolist() for one in corners if one.size >= _LEAST_POLYGON]
    if len(whole) < len(corners):
        mended["polygons under six numbers, which were left out"] += len(corners) - len(whole)
    return coco.merge(coco.frPyObjects(whole, height, width))["counts"].decode("ascii") if whole else ""


def _corners(polygon: Any, width: int, height: int) -> np.ndarray:
    """A polygon's numbers x, y, ..., checked: pycocotools would draw for ever towards a corner that is far away.

    Raises:
        ValueError: no list of numbers, a number without its pair, or one that reaches far outside the picture.
    """
    if not isinstance(polygon, np.ndarray) or polygon.ndim != 1:
        raise ValueError("a polygon is no list of numbers x, y, ...")
    if polygon.size >= _LEAST_POLYGON and polygon.size % 2:
        raise ValueError(f"a polygon has {polygon.size} numbers, which are no pairs x, y")
    sides = np.resize([width, height], polygon.size)
    if not ((polygon >= -sides) & (polygon <= 2 * sides)).all():
        raise ValueError("a polygon has NaN, or reaches far outside the image")
    return polygon
