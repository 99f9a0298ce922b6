"""Rendered scenes of several objects in COCO 2014's layout.

``train2014/``, ``val2014/``, ``annotations/instances_{train,val}2014.json``: instances as polygons, crowds as run
lengths, ids of images and categories with gaps. One picture in eighty shows nothing that is annotated.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import Progress, check_sizes, generator, render_all, tight_box
from relmap.data.render.multi_scenes import SceneObject, most_classes, render_multi_scene, scene_classes
from relmap.data.render.outlines import outlines
from relmap.job.files import atomic_path

DATASET_KEY = 4
_SPLITS = ("train2014", "val2014")
_EMPTY_EVERY = 80
# Several objects of a class are one crowd as often as not.
_CROWD_SHARE = 0.5


@dataclass(frozen=True)
class _Job:
    split: int
    index: int
    identifier: int

    @property
    def name(self) -> str:
        return f"COCO_{_SPLITS[self.split]}_{self.identifier:012d}.jpg"


@dataclass(frozen=True)
class _Result:
    width: int
    height: int
    annotations: tuple[dict[str, Any], ...]


def category_id(label: int) -> int:
    """COCO's ids run from 1 to 90 for 80 categories: every ninth or so is no category."""
    return label + 1 + label // 8


def render_coco2014(
    root: Path,
    *,
    classes: int,
    train: int,
    val: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write rendered scenes under ``root`` in COCO 2014's layout.

    The bytes depend on all arguments but ``workers``.

    Args:
        root: folder to make; replaced whole if it exists.
        classes: 2 to ``multi_scenes.most_classes()``.
        train, val: pictures of ``train2014`` and ``val2014``.
        size: shorter side of the pictures in px, at least 32.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: an argument is impossible, or the disk is full.
    """
    sizes = {"classes": classes, "train": train, "val": val, "size": size, "seed": seed, "workers": workers}
    check_sizes("coco2014", most_classes(), **sizes)
    numbers = scene_classes(classes)
    # Ids are of both splits, in no order.
    ids = 9 + 13 * generator(seed, DATASET_KEY, 2).permutation(train + val)
    jobs = [_Job(0, i, int(ids[i])) for i in range(train)] + [_Job(1, i, int(ids[train + i])) for i in range(val)]
    with atomic_path(root) as temporary:
        for folder in (*_SPLITS, "annotations"):
            (temporary / folder).mkdir(parents=True)
        write = functools.partial(_write_picture, root=temporary, numbers=tuple(numbers), size=size, seed=seed)
        found = list(zip(jobs, render_all(write, jobs, workers, progress), strict=True))
        for split, folder in enumerate(_SPLITS):
            table = _table(numbers, [(job, result) for job, result in found if job.split == split])
            (temporary / "annotations" / f"instances_{folder}.json").write_text(json.dumps(table))


def _write_picture(job: _Job, *, root: Path, numbers: Sequence[int], size: int, seed: int) -> _Result:
    rng = generator(seed, DATASET_KEY, job.split, job.index)
    scene = render_multi_scene(numbers, rng, size, seed, empty=job.index % _EMPTY_EVERY == _EMPTY_EVERY // 2)
    scene.image.save(root / _SPLITS[job.split] / job.name, format="JPEG", quality=90)
    by_class: dict[int, list[SceneObject]] = {}
    for one in scene.objects:
        by_class.setdefault(numbers.index(one.number), []).append(one)
    annotations = []
    for label, objects in by_class.items():
        masks = [one.mask for one in objects]
        if len(masks) > 1 and rng.random() < _CROWD_SHARE:
            annotations.append(_annotation(label, np.logical_or.reduce(masks), crowd=True))
        else:
            annotations += [_annotation(label, mask, crowd=False) for mask in masks]
    return _Result(scene.image.width, scene.image.height, tuple(annotations))


def _annotation(label: int, mask: np.ndarray, crowd: bool) -> dict[str, Any]:
    """An instance without its ids, whose box holds its whole mask."""
    x0, y0, x1, y1 = tight_box(mask)
    return {
        "category_id": category_id(label),
        "segmentation": run_lengths(mask) if crowd else outlines(mask),
        "area": float(mask.sum()),
        "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
        "iscrowd": int(crowd),
    }


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a bool mask (H, W): columns first, of background and mask in turn."""
    values = mask.ravel(order="F").astype(np.int8)
    ends = np.append(np.flatnonzero(np.diff(values)) + 1, len(values))
    counts = np.diff(ends, prepend=0).tolist()
    return {"counts": ([0] if values[0] else []) + counts, "size": list(mask.shape)}


def _table(numbers: Sequence[int], found: Sequence[tuple[_Job, _Result]]) -> dict[str, Any]:
    """One split's JSON."""
    categories = [
        {
            "supercategory": "animal" if CLASSES[number].wnid < "n026" else "thing",
            "id": category_id(label),
            "name": CLASSES[number].name.split(",")[0],
        }
        for label, number in enumerate(numbers)
    ]
    images = [
        {"license": 1, "file_name": job.name, "height": one.height, "width": one.width, "id": job.identifier}
        for job, one in found
    ]
    annotations = [{**one, "image_id": job.identifier} for job, result in found for one in result.annotations]
    return {
        "info": {"description": "relmap's rendered scenes", "version": "1.0", "year": 2014},
        "images": images,
        "licenses": [{"id": 1, "name": "as relmap", "url": ""}],
        # Ids are of one split's annotations, as COCO's are within a file.
        "annotations": [{**one, "id": 101 + 3 * number} for number, one in enumerate(annotations)],
        "categories": categories,
    }
