"""Pictures in a folder a class, the plainest data set there is: all are test images.

Boxes are read where a picture has an XML file in PASCAL VOC's schema beside it, with the pixel convention of
``relmap.data.formats.imagenet``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from relmap.data.decoding import read_size
from relmap.data.formats.imagenet import SUFFIXES
from relmap.data.formats.pascal import read_annotation
from relmap.data.listing import Exclusion, inside
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.threads import thread_map
from relmap.errors import InputError


def read_folder(
    root: str | os.PathLike,
    *,
    dataset: str,
    classes: Mapping[str, str] | None = None,
    exclude: Collection[str] = (),
    require_training: bool = False,
    workers: int = 16,
    skip: Collection[str] = (),
    annotate: Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]] | None = None,
) -> Manifest:
    """Read a folder of class folders; hidden files and folders are left out.

    Args:
        root: its sub-folders are named by the classes.
        dataset: id that the manifest gets.
        classes: folder -> words, in the order of the labels; the sorted folders by default.
        exclude: ids of images to leave out; nothing of theirs is read.
        require_training: refuse, for there is nothing to train on.
        skip: folders that are no class.
        annotate: paths of the pictures below ``root`` -> more columns of their rows, in the place of the XML files'.

    Raises:
        InputError: no picture, a folder that ``classes`` does not name, or training asked for.
    """
    root = Path(root)
    if require_training:
        raise InputError(
            f"{root}: a plain folder has no training images; take networks with `weights` from a file, and "
            "leave out of the config what is trained on this data set"
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in skip)
    names = dict(classes) if classes else {folder.name: folder.name for folder in folders}
    stray = next((folder for folder in folders if folder.name not in names), None)
    if stray is not None:
        raise InputError(f"{stray}: no class of that name in `classes`; add it there, or take the folder away")
    label_of = {name: label for label, name in enumerate(names)}
    left_out = Exclusion(dataset, exclude)
    pictures = [path for folder in folders for path in _pictures(folder) if left_out.keeps(_id(path))]
    left_out.check()

    def row(path: Path) -> dict[str, Any]:
        with left_out.about(_id(path)):
            return _row(path, root, label_of[path.parent.name])

    for path in pictures:
        inside(path.relative_to(root).as_posix(), root)
    rows = thread_map(row, pictures, workers)
    if annotate is not None:
        more = annotate([one["path"] for one in rows])
        rows = [
            {key: value for key, value in one.items() if key != "box_difficult"} | more[one["path"]] for one in rows
        ]
    return build_manifest(
        dataset, root, rows, list(names.values()), class_ids=list(names), require_training=False, workers=workers
    )


def _pictures(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir())
    return [path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]


def _id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _row(path: Path, root: Path, label: int) -> dict[str, Any]:
    """A picture's row of the manifest, with the boxes of its class from the XML file beside it."""
    width, height = read_size(path)
    name, xml = path.parent.name, path.with_suffix(".xml")
    objects = read_annotation(xml).objects if xml.is_file() else ()
    own = [(box, difficult) for wanted, box, difficult in objects if wanted == name]
    return {
        "image_id": _id(path),
        "path": path.relative_to(root).as_posix(),
        "split": "test",
        "labels": [label],
        "boxes": [list(box) for box, _ in own],
        "box_difficult": [difficult for _, difficult in own],
        "width": width,
        "height": height,
    }
