"""ILSVRC 2012 classification and localisation (Russakovsky et al., IJCV 2015), real or rendered.

Two trees are read: Kaggle's (``ILSVRC/Data/CLS-LOC/{train,val}``, ``ILSVRC/Annotations/CLS-LOC/{train,val}``) and the
official archives' (``train/<wnid>/`` or ``ILSVRC2012_img_train/``, ``val/`` or ``ILSVRC2012_img_val/``, the devkit, and
``ILSVRC2012_bbox_val_v3/val/`` or the XML files beside the images). Validation images lie in class folders or flat.

Pixel convention of the XML: 0-based, ``xmax`` and ``ymax`` are the last pixel inside. The validation boxes run from 0
to width - 1 (for example ``131 0 499 254`` on 500 pixels), and the development kit measures widths as max - min + 1. So
a box becomes [xmin, ymin, xmax + 1, ymax + 1] in continuous edges. Coordinates are relative to the size that the XML
declares, which is not always the stored file's: they are scaled to the stored size where the two differ.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relmap.data.decoding import read_size
from relmap.data.formats.pascal import Annotation, read_annotation, scale_to_stored
from relmap.data.listing import Exclusion, inside
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.threads import thread_map
from relmap.errors import InputError

DATASET = "imagenet"
SUFFIXES = (".jpeg", ".jpg", ".png")
_IMAGES = ("ILSVRC/Data/CLS-LOC/{}", "Data/CLS-LOC/{}", "ILSVRC2012_img_{}", "{}")
_ANNOTATIONS = (
    "ILSVRC/Annotations/CLS-LOC/{}",
    "Annotations/CLS-LOC/{}",
    "ILSVRC2012_bbox_{}_v3/{}",
    "ILSVRC2012_bbox_{}_v3",
    "ILSVRC2012_bbox_{}_v2",
    "ILSVRC2012_bbox_{}",
    "bbox_{}/{}",
    "bbox_{}",
    "{}",
)
_DEVKIT = ("ILSVRC2012_devkit_t12/data", "data", "")


def read_imagenet(
    root: str | os.PathLike,
    *,
    dataset: str = DATASET,
    classes: Mapping[str, str] | None = None,
    exclude: Collection[str] = (),
    require_boxes: bool = True,
    require_training: bool = True,
    workers: int = 16,
) -> Manifest:
    """Read ILSVRC 2012; the validation images become the split ``test``.

    Labels are the ranks of the sorted wnids, as in torchvision's weights (the devkit numbers its classes otherwise).
    An image's boxes are its own class's; other objects in the XML are left out. Training images take their size from
    the XML where there is one, so that only the others are opened; validation images are all opened (their header),
    because something is measured on their boxes.

    Args:
        root: folder with one of the trees above.
        dataset: id that the manifest gets.
        classes: wnid -> words, in the order of the labels; by default all that the tree names, sorted.
        exclude: ids of images to leave out; nothing of theirs is read.
        require_boxes: every validation image must have a box of its class.
        require_training: every class must have training images; without it the training images may be absent.
        workers: threads that read XML files and headers.

    Raises:
        InputError: images, labels or boxes are missing or contradict each other; the message names the file.
    """
    root = Path(root)
    train, val = _split_folders(root, require_training)
    words = dict(classes) if classes else _words(root)
    val_annotations = _annotation_folder(root, "val")
    left_out = Exclusion(dataset, exclude)
    tests = _validation_images(root, val, val_annotations, left_out)
    trains = [] if train is None else [pair for pair in _class_folders(train) if left_out.keeps(pair[1].stem)]
    left_out.check()
    wnids = list(classes) if classes else _sorted_wnids(train, trains, words, tests)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    _refuse_stray(tests, label_of, train or root, left_out)
    names = _unique([words.get(wnid, wnid) for wnid in wnids], wnids)
    train_annotations = _annotation_folder(root, "train")

    def row(item: tuple[str, str, Path]) -> dict[str, Any]:
        with left_out.about(item[2].stem):
            return row_of(*item)

    def row_of(split: str, wnid: str, path: Path) -> dict[str, Any]:
        annotations = train_annotations if split == "train" else val_annotations
        found = _annotated(path, wnid, annotations, opened=split == "test")
        if split == "test" and require_boxes and not found.boxes:
            where = annotations or root / _ANNOTATIONS[0].format("val")
            raise InputError(
                f"{path}: no box of class {wnid}; put {path.stem}.xml (from ILSVRC2012_bbox_val_v3.tgz) into {where}, "
                f"or, where there are no boxes, set `datasets.{dataset}.format: folder` and `path` to the class folders"
            )
        return {
            "image_id": path.stem,
            "path": path.relative_to(root).as_posix(),
            "split": split,
            "labels": [label_of[wnid]],
            "boxes": found.boxes,
            "width": found.width,
            "height": found.height,
            "box_difficult": found.difficult,
        }

    items = [("train", *pair) for pair in trains] + [("test", *pair) for pair in tests]
    rows = thread_map(row, items, workers)
    return build_manifest(
        dataset, root, rows, names, class_ids=wnids, require_training=require_training, workers=workers
    )


def _split_folders(root: Path, require_training: bool) -> tuple[Path | None, Path]:
    """Where training images lie, None where they may be absent, and where validation images do."""
    train, val = (_images_folder(root, split) for split in ("train", "val"))
    if val is None or (train is None and require_training):
        split = "val" if val is None else "train"
        raise InputError(
            f"{root}: no folder of {'validation' if val is None else 'training'} images; expected one of "
            f"{', '.join(pattern.format(split) for pattern in _IMAGES)} (extract ILSVRC2012_img_{split}.tar there)"
        )
    return train, val


def _sorted_wnids(
    train: Path | None, trains: Sequence[tuple[str, Path]], words: Mapping[str, str], tests: Sequence[tuple[str, Path]]
) -> list[str]:
    """The classes that a tree names: by its training folders, else by its words, else by its validation images."""
    if train is not None:
        return sorted({wnid for wnid, _ in trains} | {entry.name for entry in os.scandir(train) if entry.is_dir()})
    return sorted(words) or sorted({wnid for wnid, _ in tests})


def _refuse_stray(
    tests: Sequence[tuple[str, Path]], known: Container[str], expected: Path, left_out: Exclusion
) -> None:
    """Every validation image is of a known class, whose name is that of a folder."""
    for wnid, path in tests:
        with left_out.about(path.stem):
            inside(wnid, f"the class of {path}")
            if wnid not in known:
                raise InputError(f"{path}: its class {wnid} has no folder in {expected}; add it, or remove the image")


def _images_folder(root: Path, split: str) -> Path | None:
    return next((root / p.format(split) for p in _IMAGES if (root / p.format(split)).is_dir()), None)


def _annotation_folder(root: Path, split: str) -> Path | None:
    """First candidate that holds an XML file, directly or in class folders."""
    for pattern in _ANNOTATIONS:
        folder = root / pattern.format(split, split)
        if folder.is_dir() and (_has_xml(folder) or any(_has_xml(sub) for sub in _folders(folder))):
            return folder
    return None


def _folders(folder: Path) -> Iterable[Path]:
    with os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_dir())


def _has_xml(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".xml") for entry in entries)


def _pictures(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name.lower().endswith(SUFFIXES))


def _class_folders(folder: Path) -> Iterable[tuple[str, Path]]:
    for sub in sorted(_folders(folder)):
        yield from ((sub.name, path) for path in _pictures(sub))


def _validation_images(
    root: Path, folder: Path, annotations: Path | None, left_out: Exclusion
) -> list[tuple[str, Path]]:
    """(wnid, path) of every validation image, from class folders or from the flat layout's label files."""
    flat = [path for path in _pictures(folder) if left_out.keeps(path.stem)]
    if not flat:
        return [pair for pair in _class_folders(folder) if left_out.keeps(pair[1].stem)]
    label_of, source = _flat_labels(root, flat, annotations)
    missing = [path for path in flat if path.stem not in label_of]
    if missing:
        with left_out.about(missing[0].stem):
            raise InputError(f"{missing[0]}: {source} gives no label for it; restore that file, or remove the image")
    return [(label_of[path.stem], path) for path in flat]


def _flat_labels(root: Path, flat: list[Path], annotations: Path | None) -> tuple[dict[str, str], str]:
    """Image stem -> wnid: from Kaggle's solution, else the devkit, else the boxes' own class names."""
    for solution in (root / "LOC_val_solution.csv", root / "ILSVRC" / "LOC_val_solution.csv"):
        if solution.is_file():
            return _solution_labels(solution), str(solution)
    for folder in _DEVKIT:
        truth = root / folder / "ILSVRC2012_validation_ground_truth.txt"
        if truth.is_file():
            return _devkit_labels(truth, root / folder / "meta.mat", flat), str(truth)
    if annotations is not None:
        return _annotated_labels(flat, annotations), f"the annotation in {annotations}"
    raise InputError(
        f"{root}: validation images lie in one folder and nothing tells their classes; add LOC_val_solution.csv, or "
        "extract ILSVRC2012_devkit_t12.tar.gz or ILSVRC2012_bbox_val_v3.tgz here"
    )


def _solution_labels(solution: Path) -> dict[str, str]:
    """From the first word of each line's prediction, the wnid of its first box."""
    with open(solution, newline="") as file:
        return {row[0]: row[1].split()[0] for row in list(csv.reader(file))[1:] if len(row) > 1 and row[1]}


def _annotated_labels(flat: Sequence[Path], annotations: Path) -> dict[str, str]:
    """From the first object of each image's annotation, where it has one."""
    table = {}
    for path in flat:
        xml = annotations / f"{path.stem}.xml"
        objects = read_annotation(xml).objects if xml.is_file() else ()
        if objects:
            table[path.stem] = objects[0][0]
    return table


def _devkit_labels(truth: Path, meta: Path, flat: list[Path]) -> dict[str, str]:
    """Line n of the ground truth is the devkit's class id of image n; ids are translated through meta.mat."""
    ids = truth.read_text().split()
    wnid_of = {identifier: wnid for identifier, wnid, _ in _synsets(meta)}
    table = {}
    for path in flat:
        number = path.stem.rsplit("_", 1)[-1]
        if not number.isdigit() or not 1 <= int(number) <= len(ids):
            raise InputError(f"{path}: {truth} has {len(ids)} lines and none for this name; restore the original name")
        identifier = ids[int(number) - 1]
        if not identifier.isdigit() or int(identifier) not in wnid_of:
            raise InputError(
                f"{truth}: line {int(number)} has the class {identifier!r}, unknown to {meta}; restore both"
            )
        table[path.stem] = wnid_of[int(identifier)]
    return table


def _synsets(meta: Path) -> list[tuple[int, str, str]]:
    """(devkit id, wnid, words) of the low-level classes of meta.mat."""
    import scipy.io.matlab  # only here: it costs half a second

    try:
        table = scipy.io.loadmat(meta, squeeze_me=True)["synsets"]
        return [
            (int(entry["ILSVRC2012_ID"]), str(entry["WNID"]), str(entry["words"]))
            for entry in table
            if int(entry["num_children"]) == 0
        ]
    except FileNotFoundError as error:
        raise InputError(f"{meta}: missing; extract ILSVRC2012_devkit_t12.tar.gz again") from error
    except (ValueError, KeyError, TypeError, OSError, scipy.io.matlab.MatReadError) as error:
        raise InputError(f"{meta}: not the devkit's table ({error}); extract the devkit again") from error


def _words(root: Path) -> dict[str, str]:
    """wnid -> its first words, where the dataset brings them."""
    for file in (root / "LOC_synset_mapping.txt", root / "ILSVRC" / "LOC_synset_mapping.txt"):
        if file.is_file():
            lines = (line.strip().partition(" ") for line in file.read_text(encoding="utf-8").splitlines())
            return {wnid: words.split(",")[0].strip() or wnid for wnid, _, words in lines if wnid}
    for folder in _DEVKIT:
        meta = root / folder / "meta.mat"
        if meta.is_file():
            return {wnid: words.split(",")[0].strip() for _, wnid, words in _synsets(meta)}
    return {}


def _unique(names: list[str], wnids: list[str]) -> list[str]:
    """Two cranes and two maillots are told apart by their wnids."""
    return [name if names.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)]


@dataclass(frozen=True)
class _Annotated:
    """An image's stored size, the boxes of its class in stored pixels, and whether each is difficult."""

    width: int
    height: int
    boxes: list[list[float]]
    difficult: list[bool]


def _annotated(path: Path, wnid: str, annotations: Path | None, opened: bool) -> _Annotated:
    """What is known of an image; an unopened one has the declared size, and boxes that are cut to it."""
    xml = _annotation_file(path, wnid, annotations)
    annotation = read_annotation(xml) if xml is not None else Annotation(0, 0, ())
    size = read_size(path) if opened or not annotation.has_size else (annotation.width, annotation.height)
    scale_x, scale_y = scale_to_stored(annotation, size, xml, path)
    own = [(box, difficult) for name, box, difficult in annotation.objects if name == wnid]
    boxes = [[x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y] for (x0, y0, x1, y1), _ in own]
    difficult = [difficult for _, difficult in own]
    if opened:
        return _Annotated(*size, boxes, difficult)
    kept = [(cut, mark) for box, mark in zip(boxes, difficult, strict=True) if (cut := _usable(box, *size))]
    return _Annotated(*size, [cut for cut, _ in kept], [mark for _, mark in kept])


def _annotation_file(path: Path, wnid: str, annotations: Path | None) -> Path | None:
    """An image's XML file, in its class's folder or in one for all."""
    if annotations is None:
        return None
    candidates = (annotations / wnid / f"{path.stem}.xml", annotations / f"{path.stem}.xml")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _usable(box: list[float], width: int, height: int) -> list[float] | None:
    """A training box cut to the image; None if nothing is left: some are wrong, and nothing is measured on them."""
    x0, y0, x1, y1 = box
    cut = [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else None
