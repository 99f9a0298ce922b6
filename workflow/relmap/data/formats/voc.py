"""PASCAL VOC (Everingham et al., IJCV 2010), real or rendered: classes and boxes of 2007, or of a later year.

Tree: ``VOCdevkit/VOC<year>/{JPEGImages,Annotations,ImageSets/Main}``. VOC 2007 has annotations for its test images, in
an archive of their own; later years have none, and their ``val`` serves as test.

Pixel convention of the XML: 1-based, ``xmax`` and ``ymax`` are the last pixel inside. So a box becomes
[xmin - 1, ymin - 1, xmax, ymax] in continuous edges.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from relmap.data.decoding import read_size
from relmap.data.formats.pascal import Annotation, read_annotation, scale_to_stored
from relmap.data.listing import Exclusion, inside
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.threads import thread_map
from relmap.errors import InputError

LOG = logging.getLogger(__name__)
_FOLDERS = ("VOCdevkit/VOC{}", "VOC{}")
_YEARS = range(2007, 2013)
# The 20 classes of VOC 2007 to 2012, in the order of all published classifiers.
CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def read_voc(
    root: str | os.PathLike,
    *,
    dataset: str,
    classes: Mapping[str, str] | None = None,
    exclude: Collection[str] = (),
    require_training: bool = True,
    workers: int = 8,
) -> Manifest:
    """Read a year of VOC. An image's labels are the classes of all its objects, difficult ones included.

    Args:
        root: the folder that holds ``VOCdevkit`` or ``VOC<year>``, or ``VOC<year>`` itself.
        dataset: id that the manifest gets; where ``root`` holds several years, its digits choose one.
        classes: none; the data set names its classes itself, in the per-class lists of ``ImageSets/Main``.
        exclude: ids of images to leave out; nothing of theirs is read.
        require_training: every class must have a training image.
        workers: threads that read XML files and image headers.

    Raises:
        InputError: a list, an annotation or an image is missing or malformed, an object has a class without list, or
            the content fails ``build_manifest``'s checks.
    """
    if classes:
        raise InputError(f"{root}: VOC names its classes itself; remove `datasets.{dataset}.classes`")
    root = Path(root)
    base = _locate(root, dataset)
    lists = base / "ImageSets" / "Main"
    held = lists / "test.txt"
    if held.is_file():
        splits = {"train": lists / "trainval.txt", "test": held}
    elif "2007" in (base.name + dataset):
        raise InputError(f"{held}: missing; extract VOCtest_06-Nov-2007.tar beside the trainval archive")
    else:
        splits = {"train": lists / "train.txt", "test": lists / "val.txt"}
    left_out = Exclusion(dataset, exclude)
    items = [(split, stem) for split, file in splits.items() for stem in _stems(file) if left_out.keeps(stem)]
    left_out.check()
    annotations = thread_map(lambda item: _annotation(base, item[1], left_out), items, workers)
    names = _classes(lists, annotations)
    label_of = {name: label for label, name in enumerate(names)}
    for (_, stem), annotation in zip(items, annotations, strict=True):
        stray = next((name for name, *_ in annotation.objects if name not in label_of), None)
        if stray is not None:
            with left_out.about(stem):
                raise InputError(
                    f"{base / 'Annotations' / stem}.xml: an object of class {stray!r}, which has no list "
                    f"{stray}_trainval.txt in {lists}; restore both from the archive"
                )

    def row(item: tuple[tuple[str, str], Annotation]) -> dict[str, Any]:
        (split, stem), annotation = item
        picture = base / "JPEGImages" / f"{stem}.jpg"
        with left_out.about(stem):
            size = read_size(picture)
            x, y = scale_to_stored(annotation, size, base / "Annotations" / f"{stem}.xml", picture, exact=True)
        labels = [label_of[name] for name, *_ in annotation.objects]
        return {
            "image_id": stem,
            "path": picture.relative_to(root).as_posix(),
            "split": split,
            "labels": sorted(set(labels)),
            "boxes": [[x0 * x, y0 * y, x1 * x, y1 * y] for _, (x0, y0, x1, y1), _ in annotation.objects],
            "box_labels": labels,
            "box_difficult": [difficult for *_, difficult in annotation.objects],
            "width": size[0],
            "height": size[1],
        }

    rows = thread_map(row, zip(items, annotations, strict=True), workers)
    mended = sum(annotation.mended for annotation in annotations)
    if mended:
        LOG.warning("%s: %d boxes with reversed corners, which were put in order", dataset, mended)
    return build_manifest(
        dataset,
        root,
        rows,
        names,
        class_ids=names,
        require_labels=False,
        require_training=require_training,
        workers=workers,
    )


def _locate(root: Path, dataset: str) -> Path:
    """The folder of the year."""
    if (root / "ImageSets" / "Main").is_dir():
        return root
    named = [year for year in _YEARS if str(year) in dataset] or list(_YEARS)
    found = [root / folder.format(year) for folder in _FOLDERS for year in named]
    base = next((folder for folder in found if (folder / "ImageSets" / "Main").is_dir()), None)
    if base is None:
        year = named[0] if len(named) == 1 else "<year>"
        raise InputError(
            f"{root}: no VOC here (VOCdevkit/VOC{year}/ImageSets/Main is missing); extract the archives of VOC into "
            "this folder"
        )
    return base


def _stems(file: Path) -> list[str]:
    """The names of images that a list holds."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a readable list of images ({error}); extract the archive again") from error
    stems = [inside(line.split()[0], file) for line in lines if line.strip()]
    if not stems:
        raise InputError(f"{file}: lists no image; extract the archive again")
    return stems


def _annotation(base: Path, stem: str, left_out: Exclusion) -> Annotation:
    xml = base / "Annotations" / f"{stem}.xml"
    with left_out.about(stem):
        if not xml.is_file():
            raise InputError(f"{xml}: missing, though ImageSets/Main lists the image; extract the archive again")
        return read_annotation(xml, first=1, mend=True)


def _classes(lists: Path, annotations: Sequence[Annotation]) -> list[str]:
    """The classes that have a list each, sorted; without any such list, the 20, or the sorted names of the objects."""
    ends = ("_trainval.txt", "_test.txt")
    listed = {file.name.removesuffix(end) for end in ends for file in lists.glob(f"*{end}")}
    if listed:
        return sorted(listed)
    named = {name for annotation in annotations for name, *_ in annotation.objects}
    return list(CLASSES) if named and named <= set(CLASSES) else sorted(named)
