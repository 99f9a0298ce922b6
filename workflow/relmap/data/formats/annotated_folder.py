"""A folder a class, with boxes or masks in one file for all pictures.

``boxes.csv`` or ``masks.csv`` in the data set's folder, as ``relmap.data.regions_csv`` reads them, or
``annotations.json``, COCO's table of instances, of which the boxes are read. They name a picture by its path below
the folder, or by its file's name where no other has it. Every picture must have a region. The box of a mask is that
around its pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relmap.data.decoding import decode
from relmap.data.formats.folder import read_folder
from relmap.data.listing import inside
from relmap.data.manifest import Manifest
from relmap.data.regions_csv import box_of, lines_of
from relmap.errors import InputError
from relmap.job.files import read_json

Regions = dict[str, dict[str, Any]]
"""Path of a picture -> columns of its row of the manifest."""


def read_with_boxes(root: str | os.PathLike, *, dataset: str, **given: Any) -> Manifest:
    """Read a folder of class folders with ``boxes.csv`` or ``annotations.json``.

    Args:
        root, dataset, given: as of :func:`relmap.data.formats.folder.read_folder`.

    Raises:
        InputError: as that, or a picture has no box, or a file of boxes is absent or wrong, or names no picture.
    """
    return read_folder(root, dataset=dataset, annotate=lambda paths: _boxes(Path(root), paths), **given)


def read_with_masks(root: str | os.PathLike, *, dataset: str, **given: Any) -> Manifest:
    """Read a folder of class folders with ``masks.csv``, which names one mask a picture.

    Args:
        root, dataset, given: as of :func:`relmap.data.formats.folder.read_folder`.

    Raises:
        InputError: as that, or a picture has no mask, or several, or an empty one, or names no picture.
    """
    # The masks may lie in a folder of their own, beside those of the classes.
    lines = [line for _, line in lines_of(Path(root) / "masks.csv")]
    tops = {key: {Path(line[key]).parts[:1] for line in lines} for key in ("image", "mask")}
    skip = {name for (name,) in filter(None, tops["mask"] - tops["image"])}
    return read_folder(root, dataset=dataset, skip=skip, annotate=lambda paths: _masks(Path(root), paths), **given)


def _boxes(root: Path, paths: Sequence[str]) -> Regions:
    table, coco = root / "boxes.csv", root / "annotations.json"
    if table.is_file() == coco.is_file():
        raise InputError(f"{root}: needs boxes.csv or annotations.json, one of them; or take the format folder")
    found: dict[str, list[list[float]]] = {}
    picture = _finder(paths)
    if table.is_file():
        for number, line in lines_of(table):
            path = picture(line["image"], f"{table}: line {number}")
            found.setdefault(path, []).append(box_of(line, table, number))
    else:
        for name, box in _of_coco(coco):
            found.setdefault(picture(name, str(coco)), []).append(box)
    return _complete({path: {"boxes": boxes} for path, boxes in found.items()}, paths, root, "box")


def _of_coco(file: Path) -> list[tuple[str, list[float]]]:
    """(file name, box) of COCO's annotations."""
    try:
        whole = read_json(file)
        names = {int(image["id"]): str(image["file_name"]) for image in whole["images"]}
        boxes = [(names[int(one["image_id"])], [float(value) for value in one["bbox"]]) for one in whole["annotations"]]
        return [(name, [x, y, x + width, y + height]) for name, (x, y, width, height) in boxes]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: not COCO's table of instances ({error!r}); correct it") from error


def _masks(root: Path, paths: Sequence[str]) -> Regions:
    table, found = root / "masks.csv", Regions()
    picture = _finder(paths)
    for number, line in lines_of(table):
        path = picture(line["image"], f"{table}: line {number}")
        if path in found:
            raise InputError(f"{table}: line {number}: a second mask of {path}; join the two into one file")
        mask = inside(line["mask"], table)
        values = np.asarray(decode(root / mask))
        object_ = values.reshape(*values.shape[:2], -1).any(2)
        if not object_.any():
            raise InputError(f"{root / mask}: the mask is 0 everywhere; take its line out, or the picture")
        rows, columns = (np.flatnonzero(object_.any(axis)) for axis in (1, 0))
        box = [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]
        found[path] = {"boxes": [box], "mask_path": mask}
    return _complete(found, paths, root, "mask")


def _finder(paths: Sequence[str]) -> Callable[[str, str], str]:
    """Which picture a name is of."""
    names = [Path(path).name for path in paths]
    known: Mapping[str, str] = {
        **{name: path for name, path in zip(names, paths, strict=True) if names.count(name) == 1},
        **{path: path for path in paths},
    }

    def find(name: str, where: str) -> str:
        if name not in known:
            raise InputError(
                f"{where}: no picture {name!r} in the folder, or several of that name; give its whole path"
            )
        return known[name]

    return find


def _complete(found: Regions, paths: Sequence[str], root: Path, what: str) -> Regions:
    lacking = next((path for path in paths if path not in found), None)
    if lacking is not None:
        raise InputError(f"{root / lacking}: the picture has no {what}; add a line of it, or exclude the picture")
    return found
