"""Rendered scenes in ILSVRC's layout (classification and localisation, CLS-LOC), as Kaggle distributes it.

``ILSVRC/Data/CLS-LOC/{train/<wnid>,val}``, boxes as XML below ``ILSVRC/Annotations/CLS-LOC``, image lists below
``ILSVRC/ImageSets/CLS-LOC``, and ``LOC_synset_mapping.txt``, ``LOC_train_solution.csv``, ``LOC_val_solution.csv``.
Boxes are ILSVRC's: counted from 0, with xmax and ymax the last column and row inside.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import Progress, check_sizes, generator, render_all
from relmap.data.render.scenes import render_scene
from relmap.job.files import atomic_path

DATASET_KEY = 2


@dataclass(frozen=True)
class _Job:
    label: int
    split: int
    index: int
    stem: str


@dataclass(frozen=True)
class _Result:
    width: int
    height: int
    boxes: tuple[tuple[int, int, int, int], ...]


def _place(job: _Job) -> str:
    return f"val/{job.stem}" if job.split else f"train/{CLASSES[job.label].wnid}/{job.stem}"


def _write_picture(job: _Job, *, root: Path, size: int, seed: int) -> _Result:
    picture = render_scene(job.label, generator(seed, DATASET_KEY, job.split, job.label, job.index), size, seed)
    picture.image.save(root / "Data" / "CLS-LOC" / f"{_place(job)}.JPEG", format="JPEG", quality=90)
    result = _Result(picture.image.width, picture.image.height, picture.boxes)
    (root / "Annotations" / "CLS-LOC" / f"{_place(job)}.xml").write_text(_annotation(job, result))
    return result


def _annotation(job: _Job, result: _Result) -> str:
    wnid = CLASSES[job.label].wnid
    objects = "".join(
        f"\t<object>\n\t\t<name>{wnid}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
        f"\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{x0}</xmin>\n\t\t\t<ymin>{y0}</ymin>\n"
        f"\t\t\t<xmax>{x1 - 1}</xmax>\n\t\t\t<ymax>{y1 - 1}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for x0, y0, x1, y1 in result.boxes
    )
    return (
        f"<annotation>\n\t<folder>{'val' if job.split else wnid}</folder>\n\t<filename>{job.stem}</filename>\n"
        "\t<source>\n\t\t<database>ILSVRC_2012</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{result.width}</width>\n\t\t<height>{result.height}</height>\n\t\t<depth>3</depth>\n"
        f"\t</size>\n\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )


def render_imagenet(
    root: Path,
    *,
    classes: int,
    train_per_class: int,
    val_per_class: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write rendered scenes under ``root`` in ILSVRC's layout.

    The bytes depend on all arguments but ``workers``; a picture's only on (size, seed, class, split, index). The
    validation pictures of all classes are shuffled, as ILSVRC's are.

    Args:
        root: folder to make; replaced whole if it exists.
        classes: 2 to ``len(catalogue.CLASSES)``.
        size: shorter side of the pictures in px, at least 32.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: an argument is impossible, or the disk is full.
    """
    check_sizes(
        "imagenet",
        len(CLASSES),
        classes=classes,
        train_per_class=train_per_class,
        val_per_class=val_per_class,
        size=size,
        seed=seed,
        workers=workers,
    )
    wnids = [kind.wnid for kind in CLASSES[:classes]]
    train = [
        _Job(label, 0, index, f"{wnids[label]}_{index + 1}")
        for label in range(classes)
        for index in range(train_per_class)
    ]
    pairs = [(label, index) for label in range(classes) for index in range(val_per_class)]
    order = generator(seed, DATASET_KEY, 2).permutation(len(pairs))
    val = [
        _Job(*(pairs[k][0], 1, pairs[k][1]), f"ILSVRC2012_val_{number:08d}") for number, k in enumerate(order, start=1)
    ]
    with atomic_path(root) as temporary:
        base = temporary / "ILSVRC"
        for kind in ("Data", "Annotations"):
            for folder in ("val", *(f"train/{wnid}" for wnid in wnids)):
                (base / kind / "CLS-LOC" / folder).mkdir(parents=True)
        write = functools.partial(_write_picture, root=base, size=size, seed=seed)
        results = list(render_all(write, train + val, workers, progress))
        _write_lists(temporary, wnids, train, val, results)


def _write_lists(root: Path, wnids: list[str], train: list[_Job], val: list[_Job], results: list[_Result]) -> None:
    lists = root / "ILSVRC" / "ImageSets" / "CLS-LOC"
    lists.mkdir(parents=True)

    def write(path: Path, lines: Iterable[str]) -> None:
        path.write_text("".join(f"{line}\n" for line in lines))

    names = {kind.wnid: kind.name for kind in CLASSES}
    write(root / "LOC_synset_mapping.txt", (f"{wnid} {names[wnid]}" for wnid in sorted(wnids)))
    write(lists / "train_cls.txt", (f"{_place(job)[6:]} {i}" for i, job in enumerate(train, start=1)))
    write(lists / "val.txt", (f"{job.stem} {i}" for i, job in enumerate(val, start=1)))
    for name, jobs, found in (
        ("LOC_train_solution.csv", train, results[: len(train)]),
        ("LOC_val_solution.csv", val, results[len(train) :]),
    ):
        rows = (
            f"{job.stem},{' '.join(f'{wnids[job.label]} {x0} {y0} {x1 - 1} {y1 - 1}' for x0, y0, x1, y1 in one.boxes)} "
            for job, one in zip(jobs, found, strict=True)
        )
        write(root / name, ("ImageId,PredictionString", *rows))
