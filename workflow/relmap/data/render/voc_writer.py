"""Rendered scenes of several objects in the layout of VOC 2007 or VOC 2012.

``VOCdevkit/VOC<year>/{JPEGImages,Annotations,ImageSets/Main}``, with a list of images a split and one a class and
split. As in VOC, boxes count from 1 and name the last column and row inside, classes are written in one word, and
numbers of images are shuffled over the splits. VOC 2012 has no annotated test images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import Progress, check_sizes, generator, render_all
from relmap.data.render.multi_scenes import most_classes, render_multi_scene, scene_classes
from relmap.job.files import atomic_path


@dataclass(frozen=True)
class _Year:
    """What tells a year of VOC: its number, the key of its random numbers, and how it names image ``number``."""

    number: int
    key: int
    stem: str


_VOC2007 = _Year(2007, 3, "{:06d}")
_VOC2012 = _Year(2012, 6, "2012_{:06d}")


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
    half = (train + 1) // 2

    def splits(trainval: list[str], held: list[str]) -> dict[str, list[str]]:
        return {"train": trainval[:half], "val": trainval[half:], "trainval": trainval, "test": held}

    _render(_VOC2007, root, classes, (train, test), size, seed, workers, progress, splits)


def render_voc2012(
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
    """Write rendered scenes under ``root`` in VOC 2012's layout, other scenes than ``render_voc2007``'s.

    Args:
        train, val: pictures of these splits.
        root, classes, size, seed, workers, progress: as of ``render_voc2007``.

    Raises:
        InputError: an argument is impossible, or the disk is full.
    """
    sizes = {"classes": classes, "train": train, "val": val, "size": size, "seed": seed, "workers": workers}
    check_sizes("voc2012", most_classes(), **sizes)

    def splits(first: list[str], held: list[str]) -> dict[str, list[str]]:
        return {"train": first, "val": held, "trainval": sorted(first + held)}

    _render(_VOC2012, root, classes, (train, val), size, seed, workers, progress, splits)


def _render(
    year: _Year,
    root: Path,
    classes: int,
    counts: tuple[int, int],
    size: int,
    seed: int,
    workers: int,
    progress: Progress | None,
    splits: Callable[[list[str], list[str]], dict[str, list[str]]],
) -> None:
    """A year's tree: ``counts`` pictures to learn from and to test on, listed as ``splits`` says of their names."""
    numbers = scene_classes(classes)
    order = generator(seed, year.key, 2).permutation(sum(counts))
    stems = iter(year.stem.format(number + 1) for number in order)
    jobs = [_Job(split, index, next(stems)) for split, count in enumerate(counts) for index in range(count)]
    jobs.sort(key=lambda job: job.stem)
    with atomic_path(root) as temporary:
        base = temporary / f"VOCdevkit/VOC{year.number}"
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (base / folder).mkdir(parents=True)
        write = functools.partial(_write_picture, year=year, root=base, numbers=tuple(numbers), size=size, seed=seed)
        found = dict(zip((job.stem for job in jobs), render_all(write, jobs, workers, progress), strict=True))
        lists = splits(*([job.stem for job in jobs if job.split == split] for split in (0, 1)))
        for split, members in lists.items():
            _write_lists(base / "ImageSets" / "Main", split, members, numbers, found)


def _write_picture(job: _Job, *, year: _Year, root: Path, numbers: Sequence[int], size: int, seed: int) -> _Result:
    scene = render_multi_scene(numbers, generator(seed, year.key, job.split, job.index), size, seed)
    scene.image.save(root / "JPEGImages" / f"{job.stem}.jpg", format="JPEG", quality=90)
    objects = "".join(
        f"\t<object>\n\t\t<name>{class_word(one.number)}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(one.truncated)}</truncated>\n\t\t<difficult>{int(one.difficult)}</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{one.box[0] + 1}</xmin>\n\t\t\t<ymin>{one.box[1] + 1}</ymin>\n"
        f"\t\t\t<xmax>{one.box[2]}</xmax>\n\t\t\t<ymax>{one.box[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for one in scene.objects
    )
    (root / "Annotations" / f"{job.stem}.xml").write_text(
        f"<annotation>\n\t<folder>VOC{year.number}</folder>\n\t<filename>{job.stem}.jpg</filename>\n\t<source>\n"
        f"\t\t<database>The VOC{year.number} Database</database>\n"
        f"\t\t<annotation>PASCAL VOC{year.number}</annotation>\n"
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
