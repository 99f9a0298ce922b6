"""CUB-200-2011 (Wah et al., CNS-TR-2011-001) in its own on-disk format, real or rendered.

Tree: ``CUB_200_2011/{images,parts,*.txt}`` with ``segmentations/`` (its own archive) beside it or inside it.
A rendered copy has ``relmap_truth/`` in addition: part maps and the parts that tell classes apart.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from relmap.data.decoding import read_size
from relmap.data.listing import Exclusion, inside
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.threads import thread_map
from relmap.errors import InputError

DATASET = "cub200_2011"
FOLDER = "CUB_200_2011"
TRUTH = "relmap_truth"

Value = TypeVar("Value")


def read_cub(
    root: str | os.PathLike,
    *,
    dataset: str = DATASET,
    classes: Mapping[str, str] | None = None,
    exclude: Collection[str] = (),
    require_masks: bool = True,
    require_training: bool = True,
    workers: int = 8,
) -> Manifest:
    """Read CUB-200-2011.

    Args:
        root: the folder that holds ``CUB_200_2011``, or ``CUB_200_2011`` itself.
        dataset: id that the manifest gets.
        classes: none; the data set names its classes itself.
        exclude: ids of images to leave out; nothing of theirs is read.
        require_training: of no account; its own split has training images.
        require_masks: every image must have its segmentation (mean IoU needs them).
        workers: threads that read image headers.

    Boxes ``x y w h`` become [x, y, x + w, y + h] in continuous pixel edges, cut to the image. ``part_points`` keeps the
    visible parts of ``parts/part_locs.txt``.

    Raises:
        InputError: a file is missing or malformed, or the content fails ``build_manifest``'s checks.
    """
    if classes:
        raise InputError(f"{root}: CUB-200-2011 names its classes in classes.txt; remove `datasets.{dataset}.classes`")
    root, base = _locate(Path(root))
    left_out = Exclusion(dataset, exclude)
    tables = _tables(base, left_out)
    # Class ids are 1-based and contiguous in the data; ranking them keeps a subset of classes readable.
    label_of = {class_id: label for label, class_id in enumerate(sorted(tables.classes))}
    order = sorted(tables.images)

    def size_of(key: int) -> tuple[int, int]:
        with left_out.about(PurePosixPath(tables.images[key]).stem):
            return read_size(base / "images" / tables.images[key])

    sizes = thread_map(size_of, order, workers)
    masks = _segmentations(root, base)
    truth = root / TRUTH if (root / TRUTH).is_dir() else base / TRUTH
    part_names, part_map_of = _part_maps(root, truth)
    point_names, points = _points(base, tables.images, left_out)
    images = PurePosixPath(base.relative_to(root).as_posix()) / "images"
    rows = []
    for key, (width, height) in zip(order, sizes, strict=True):
        x, y, w, h = tables.boxes[key]
        picture = PurePosixPath(tables.images[key])
        rows.append(
            {
                "image_id": picture.stem,
                "path": (images / picture).as_posix(),
                "split": "train" if tables.splits[key] == 1 else "test",
                "labels": [label_of[tables.labels[key]]],
                "boxes": [[x, y, x + w, y + h]],
                "mask_path": _mask_path(root, masks, picture),
                "part_map_path": part_map_of(picture),
                "part_points": points.get(key, []),
                "width": width,
                "height": height,
            }
        )
    return build_manifest(
        dataset,
        root,
        rows,
        [_class_name(tables.classes[class_id]) for class_id in label_of],
        part_names=part_names,
        distinguishing=_distinguishing(truth, tables.classes, label_of, part_names),
        point_names=point_names,
        class_ids=[tables.classes[class_id] for class_id in label_of],
        require_masks=require_masks,
        workers=workers,
    )


@dataclass(frozen=True)
class _Tables:
    """The data set's text files, by image id, and its classes' names by class id."""

    images: dict[int, str]
    splits: dict[int, int]
    labels: dict[int, int]
    boxes: dict[int, tuple[float, float, float, float]]
    classes: dict[int, str]


def _tables(base: Path, left_out: Exclusion) -> _Tables:
    """The text files, if each has a line for every image, and each image a class that is listed."""
    listed = _table(base / "images.txt", lambda path: PurePosixPath(inside(path, base / "images.txt")))
    images = {key: path.as_posix() for key, path in listed.items() if left_out.keeps(path.stem)}
    left_out.check()
    of_images = {key: listed[key].stem for key in images}, left_out
    tables = _Tables(
        images,
        _table(base / "train_test_split.txt", int, *of_images),
        _table(base / "image_class_labels.txt", int, *of_images),
        _table(base / "bounding_boxes.txt", _four_numbers, *of_images),
        _table(base / "classes.txt", str),
    )
    if not tables.classes:
        raise InputError(f"{base / 'classes.txt'}: no classes; restore the file from the archive")
    _refuse_absent(base / "train_test_split.txt", tables.splits, *of_images)
    _refuse_absent(base / "image_class_labels.txt", tables.labels, *of_images)
    _refuse_absent(base / "bounding_boxes.txt", tables.boxes, *of_images)
    unknown = sorted(key for key in tables.images if tables.labels[key] not in tables.classes)
    if unknown:
        with left_out.about(listed[unknown[0]].stem):
            raise InputError(
                f"{base / 'image_class_labels.txt'}: image {unknown[0]} has class {tables.labels[unknown[0]]}, which "
                "classes.txt does not list; restore both files"
            )
    return tables


def _refuse_absent(path: Path, table: Mapping[int, object], images: Mapping[int, str], left_out: Exclusion) -> None:
    """A file has a line for every image."""
    absent = sorted(images.keys() - table.keys())
    if absent:
        with left_out.about(images[absent[0]]):
            raise InputError(f"{path}: no line for image {absent[0]} ({images[absent[0]]}); restore the file")


def _mask_path(root: Path, masks: PurePosixPath | None, picture: PurePosixPath) -> str | None:
    """Where an image's segmentation lies, if it has one."""
    mask = None if masks is None else masks / picture.with_suffix(".png")
    return mask.as_posix() if mask is not None and (root / mask).is_file() else None


def _locate(root: Path) -> tuple[Path, Path]:
    """(folder that all paths are relative to, folder with images.txt)."""
    if (root / FOLDER / "images.txt").is_file():
        return root, root / FOLDER
    if (root / "images.txt").is_file():
        beside = not (root / "segmentations").is_dir() and (root.parent / "segmentations").is_dir()
        return (root.parent, root) if beside else (root, root)
    raise InputError(
        f"{root}: no CUB-200-2011 here ({FOLDER}/images.txt is missing); extract CUB_200_2011.tgz and "
        "segmentations.tgz into this folder"
    )


def _segmentations(root: Path, base: Path) -> PurePosixPath | None:
    for folder in (root / "segmentations", base / "segmentations"):
        if folder.is_dir():
            return PurePosixPath(folder.relative_to(root).as_posix())
    return None


def _table(
    path: Path,
    convert: Callable[[str], Value],
    images: Mapping[int, str] | None = None,
    left_out: Exclusion | None = None,
) -> dict[int, Value]:
    """Lines of ``<id> <rest>`` as a dict, in the file's order; those of ``images`` alone, where it is given."""
    table: dict[int, Value] = {}
    for number, line in enumerate(_lines(path), start=1):
        key, _, rest = line.strip().partition(" ")
        malformed = f"{path}: line {number} ({line.strip()!r}) is not as CUB-200-2011 has it; restore the file"
        try:
            identifier = int(key)
        except ValueError as error:
            raise InputError(malformed) from error
        if images is not None and identifier not in images:
            continue
        with nullcontext() if images is None else left_out.about(images[identifier]):
            try:
                value = convert(rest.strip())
            except ValueError as error:
                raise InputError(malformed) from error
            if identifier in table:
                raise InputError(f"{path}: line {number} repeats id {identifier}; restore the file")
        table[identifier] = value
    return table


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; extract CUB_200_2011.tgz again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; extract CUB_200_2011.tgz again") from error


def _four_numbers(text: str) -> tuple[float, float, float, float]:
    x, y, w, h = (float(value) for value in text.split())
    return x, y, w, h


def _class_name(raw: str) -> str:
    """``001.Black_footed_Albatross`` -> ``Black footed Albatross``."""
    return raw.split(".", 1)[-1].replace("_", " ")


def _points(
    base: Path, images: Mapping[int, str], left_out: Exclusion
) -> tuple[tuple[str, ...], dict[int, list[list[float]]]]:
    """Names of parts 1, 2, ... and per image of ``images`` its visible points [part, x, y]."""
    names_file, file = base / "parts" / "parts.txt", base / "parts" / "part_locs.txt"
    if not names_file.is_file() or not file.is_file():
        return (), {}
    names = _table(names_file, str)
    if sorted(names) != list(range(1, len(names) + 1)):
        raise InputError(f"{names_file}: part ids must be 1, 2, ... without gaps; restore the file")
    points: dict[int, list[list[float]]] = {}
    for number, line in enumerate(_lines(file), start=1):
        key = line.split()[0]
        picture = images.get(int(key)) if key.isdecimal() else ""
        if picture is None:
            continue
        try:
            image, part, x, y, visible = line.split()
            point = [float(part), float(x), float(y)]
            if int(visible):
                points.setdefault(int(image), []).append(point)
        except ValueError as error:
            with left_out.about(PurePosixPath(picture).stem):
                message = f"{file}: line {number} ({line.strip()!r}) is not as CUB-200-2011 has it; restore the file"
                raise InputError(message) from error
    return tuple(names[key] for key in sorted(names)), points


def _part_maps(root: Path, truth: Path) -> tuple[tuple[str, ...], Callable[[PurePosixPath], str | None]]:
    """Names of part-map values 1, 2, ..., and where an image's part map lies (None without truth)."""
    if not truth.is_dir():
        return (), lambda picture: None
    file = truth / "parts.csv"
    names: dict[int, str] = {}
    for row in _csv(file, ("index", "name")):
        try:
            names[int(row["index"])] = row["name"]
        except ValueError as error:
            message = f"{file}: index {row['index']!r} is not a number; delete the rendered data and run again"
            raise InputError(message) from error
    names.pop(0, None)
    if sorted(names) != list(range(1, len(names) + 1)):
        raise InputError(f"{file}: part indices must be 1, 2, ... without gaps; delete the rendered data and run again")
    folder = PurePosixPath(truth.relative_to(root).as_posix()) / "part_maps"

    def part_map_of(picture: PurePosixPath) -> str:
        return (folder / picture.with_suffix(".png")).as_posix()

    return tuple(names[key] for key in sorted(names)), part_map_of


def _distinguishing(
    truth: Path, classes: dict[int, str], label_of: dict[int, int], part_names: tuple[str, ...]
) -> dict[int, list[str]]:
    """Label -> parts in which the class differs from any of its neighbours, in the order of ``part_names``."""
    file = truth / "distinguishing_parts.csv"
    if not file.is_file():
        return {}
    found: dict[int, set[str]] = {}
    for row in _csv(file, ("class_id", "part")):
        if not row["class_id"].isdigit() or int(row["class_id"]) not in classes or row["part"] not in part_names:
            raise InputError(
                f"{file}: class {row['class_id']!r} with part {row['part']!r} is not in classes.txt and parts.csv; "
                "delete the rendered data and run again"
            )
        found.setdefault(label_of[int(row["class_id"])], set()).add(row["part"])
    return {label: [part for part in part_names if part in found[label]] for label in sorted(found)}


def _csv(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
    except FileNotFoundError as error:
        raise InputError(f"{file}: missing; delete the rendered data and run again") from error
    absent = [name for name in columns if name not in (reader.fieldnames or ())]
    if absent:
        raise InputError(f"{file}: lacks the column {', '.join(absent)}; delete the rendered data and run again")
    return rows
