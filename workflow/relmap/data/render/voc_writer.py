"""Rendered scenes of several objects in VOC 2007's layout.

``VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets/Main}``, with a list of images a split and one a class and split.
As in VOC, boxes count from 1 and name the last column and row inside, classes are written in one word, and numbers of
images are shuffled over the splits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import Progress, check_sizes, generator, render_all
from relmap.data.render.multi_scenes import most_classes, render_multi_scene, scene_classes
from relmap.job.files import atomic_path

DATASET_KEY = 3
FOLDER = "VOCdevkit/VOC2007"


@dataclass(frozen=True)
class _Job:
    split: int
    index: int
    stem: str


# Of a picture: each object's class in one word, and whether it is difficult.
_Result = tuple[tuple[str, bool], ...]


def class_word(number: int) -> str:
    """The name of ``CLASSES[number]`` in one word, as VOC writes ``pottedplant``."""
    return CLASSES[number].name.split(",")[0].lower().replace(" ", "").replace("-", "")


def render_voc2007(
    root: Path,
    *,
    classes: int,
    train: int,
    test: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write rendered scenes under ``root`` in VOC 2007's layout.

    The bytes depend on all arguments but ``workers``; a picture's only on (classes, size, seed, split, index) and its
    name on the numbers of pictures.

    Args:
        root: folder to make; replaced whole if it exists.
        classes: 2 to ``multi_scenes.most_classes()``.
        train: pictures of ``trainval``, of which the first half is ``train``.
        test: pictures of ``test``.
        size: shorter side of the pictures in px, at least 32.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: an argument is impossible, or the disk is full.
    """
    sizes = {"classes": classes, "train": train, "test": test, "size": size, "seed": seed, "workers": workers}
    check_sizes("voc2007", most_classes(), **sizes)
    numbers = scene_classes(classes)
    order = generator(seed, DATASET_KEY, 2).permutation(train + test)
    stems = [f"{number + 1:06d}" for number in order]
    jobs = sorted(
        [_Job(0, i, stems[i]) for i in range(train)] + [_Job(1, i, stems[train + i]) for i in range(test)],
        key=lambda job: job.stem,
    )
    with atomic_path(root) as temporary:
        base = temporary / FOLDER
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (base / folder).mkdir(parents=True)
        write = functools.partial(_write_picture, root=base, numbers=tuple(numbers), size=size, seed=seed)
        found = dict(zip((job.stem for job in jobs), render_all(write, jobs, workers, progress), strict=True))
        trainval = [job.stem for job in jobs if not job.split]
        half = (train + 1) // 2
        splits = {
            "train": trainval[:half],
            "val": trainval[half:],
            "trainval": trainval,
            "test": [job.stem for job in jobs if job.split],
        }
        for split, members in splits.items():
            _write_lists(base / "ImageSets" / "Main", split, members, numbers, found)


def _write_picture(job: _Job, *, root: Path, numbers: Sequence[int], size: int, seed: int) -> _Result:
    scene = render_multi_scene(numbers, generator(seed, DATASET_KEY, job.split, job.index), size, seed)
    scene.image.save(root / "JPEGImages" / f"{job.stem}.jpg", format="JPEG", quality=90)
    objects = "".join(
        f"\t<object>\n\t\t<name>{class_word(one.number)}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(one.truncated)}</truncated>\n\t\t<difficult>{int(one.difficult)}</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{one.box[0] + 1}</xmin>\n\t\t\t<ymin>{one.box[1] + 1}</ymin>\n"
        f"\t\t\t<xmax>{one.box[2]}</xmax>\n\t\t\t<ymax>{one.box[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for one in scene.objects
    )
    (root / "Annotations" / f"{job.stem}.xml").write_text(
        f"<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{job.stem}.jpg</filename>\n\t<source>\n"
        "\t\t<database>The VOC2007 Database</database>\n\t\t<annotation>PASCAL VOC2007</annotation>\n"
        "\t\t<image>relmap</image>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{scene.image.width}</width>\n\t\t<height>{scene.image.height}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )
    return tuple((class_word(one.number), one.difficult) for one in scene.objects)


def _write_lists(
    folder: Path, split: str, stems: Sequence[str], numbers: Sequence[int], found: dict[str, _Result]
) -> None:
    """The images of a split, and for each class whether they show it: 1, -1, or 0 where all objects are difficult."""
    (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    for word in map(class_word, numbers):
        lines = []
        for stem in stems:
            marks = [difficult for name, difficult in found[stem] if name == word]
            lines.append(f"{stem} {-1 if not marks else int(not all(marks)):2d}\n")
        (folder / f"{word}_{split}.txt").write_text("".join(lines))
