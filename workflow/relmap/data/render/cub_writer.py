"""Rendered birds in the on-disk format of CUB-200-2011 (Wah et al., CNS-TR-2011-001).

Beside ``CUB_200_2011`` and ``segmentations`` lies ``relmap_truth``, what only a renderer knows: a part map per picture,
each class's looks, and the parts in which classes differ.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from relmap.data.render import birds, textures
from relmap.data.render.birds import INDEX, PARTS, BirdClass
from relmap.data.render.canvas import Brush, Canvas, Frame
from relmap.data.render.jobs import Progress, check_sizes, generator, picture_shape, render_all, tight_box
from relmap.job.files import atomic_path

DATASET_KEY = 1
RECIPES = "relmap_truth/recipes.csv"
REMOVABLE = ("distractors", "branch")
SPLITS = ("train", "test")
LEVELS = 5
"""The original segmentations hold the share of five annotators, so their grey values are multiples of 51."""

CUB_PARTS = (
    "back",
    "beak",
    "belly",
    "breast",
    "crown",
    "forehead",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
    "right wing",
    "tail",
    "throat",
)
# Part of CUB -> (our label, movable frame, anchor in it). Near and far resolve to right and left by the bird's facing.
_ANCHORS = {
    "back": (INDEX["back"], "body", (-0.2, 0.22)),
    "beak": (INDEX["beak"], "head", (1.2, -0.05)),
    "belly": (INDEX["belly"], "body", (-0.1, -0.18)),
    "breast": (INDEX["breast"], "body", (0.38, -0.02)),
    "crown": (INDEX["crown"], "head", (-0.1, 0.8)),
    "forehead": (INDEX["crown"], "head", (0.8, 0.45)),
    "nape": (INDEX["nape"], "head", (-1.0, -0.7)),
    "tail": (INDEX["tail"], "tail", (0.35, 0.0)),
    "throat": (INDEX["throat"], "head", (0.5, -0.7)),
    "near eye": (INDEX["eye"], "head", (0.4, 0.2)),
    "near leg": (INDEX["leg"], "leg", (0.0, -0.2)),
    "near wing": (INDEX["wing"], "wing", (0.5, 0.0)),
    "far leg": (birds.FAR_LEG, "far_leg", (0.0, -0.2)),
    "far wing": (birds.FAR_WING, "far_wing", (0.6, 0.0)),
}
JPEG = {"format": "JPEG", "quality": 92}
_PNG = {"compress_level": 4}


@dataclass(frozen=True)
class BirdPicture:
    """One rendered picture and its truth, all (H, W); ``covered`` tells whether leaves hang before the bird."""

    image: Image.Image
    segmentation: np.ndarray
    part_map: np.ndarray
    box: tuple[int, int, int, int]
    points: tuple[tuple[int, int] | None, ...]
    covered: bool


def render_bird(
    bird: BirdClass, rng: np.random.Generator, size: int, *, shown: BirdClass | None = None, without: str = ""
) -> BirdPicture:
    """Render one picture of a bird.

    Args:
        size: shorter side in px.
        shown: a bird to draw in its place, of the same build, held and placed as this one is.
        without: one of ``REMOVABLE`` to leave out; random numbers are drawn as if it were there.

    Returns:
        The picture, its segmentation in steps of 51, the part map (zero where the segmentation is at most 127), the
        tight box of the visible bird, and a point (x, y) in px or None for each of ``CUB_PARTS``.
    """
    height, width = picture_shape(rng, size)
    unit = size / 64
    scene = textures.background(rng, height, width, textures.OUTDOORS)
    if rng.random() < 0.8:
        scene = textures.distractors(rng, scene, int(rng.integers(2, 9)), without != "distractors")
    canvas = Canvas(scene)
    pose = birds.random_pose(rng)
    low, high = birds.extent(bird, pose)
    span = high - low
    # Photographers put birds near the middle; here within the square that classifiers crop, which cuts no part off.
    scale = rng.uniform(0.75, 1.0) * size / span.max()
    corner = np.array([width - size, height - size]) / 2 + rng.uniform(0, 1, (2, 2)).mean(0) * (size - scale * span)
    origin = corner - scale * low
    frame = Frame.upright(*origin, scale, pose.tilt, pose.flip, pose.squeeze)
    if not pose.raised:
        feet = birds.frames(bird.build, pose, frame)["leg"].apply(np.array([(0.05, -0.31)]))[0]
        slope = rng.uniform(-0.25, 0.25) * width
        thick = unit * rng.uniform(2.0, 4.5)
        left, right = (-4, feet[1] + 0.3 * thick - slope), (width + 4, feet[1] + 0.3 * thick + slope)
        planes = canvas.snapshot()
        textures.branch(rng, canvas, left, right, thick)
        if without == "branch":
            canvas.restore(planes)
    tint = rng.normal(1, 0.04, 3) * rng.uniform(0.88, 1.1)
    shades = rng.normal(1, 0.05, len(PARTS)).clip(0.85, 1.15)
    at = birds.draw_bird(Brush(canvas, frame, tint), shown or bird, pose, shades)
    covered = False
    if rng.random() < 0.4:
        centre = frame.origin + rng.normal(0, 0.25, 2) * scale
        covered = textures.occlude(rng, canvas, centre, 0.6 * scale)
    light = textures.light_direction(rng)
    cover, labels = canvas.label_planes()
    picture = canvas.picture(cover, labels, light)
    picture *= (
        1 + np.float32(0.07) * cover[:, :, None] * textures.noise(rng, height, width, height / 2, width / 2)[:, :, None]
    )
    image = textures.expose(rng, picture, light)
    segmentation = (np.rint(cover * LEVELS) * (255 // LEVELS)).astype(np.uint8)
    inside = segmentation > 127
    visible = np.where(inside, labels, 0)
    box = tight_box(inside)
    if box is None:
        raise RuntimeError("a rendered bird is invisible")
    points = _points(visible, at, pose.flip, 0.3 * scale)
    return BirdPicture(image, segmentation, birds.merge_far(visible), box, points, covered)


def _points(visible: np.ndarray, at: dict[str, Frame], flip: bool, reach: float) -> tuple[tuple[int, int] | None, ...]:
    """For each of CUB's parts the visible pixel nearest to its anchor, or None if none lies within ``reach`` px."""
    near, far = ("left", "right") if flip else ("right", "left")
    points: list[tuple[int, int] | None] = []
    for part in CUB_PARTS:
        name = part.replace(near, "near").replace(far, "far")
        if name not in _ANCHORS:
            points.append(None)
            continue
        label, frame, anchor = _ANCHORS[name]
        x, y = at[frame].apply(np.array([anchor]))[0]
        rows, columns = np.nonzero(visible == label)
        if len(rows) == 0:
            points.append(None)
            continue
        away = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2
        nearest = int(away.argmin())
        points.append((int(columns[nearest]), int(rows[nearest])) if away[nearest] <= reach**2 else None)
    return tuple(points)


@dataclass(frozen=True)
class _Job:
    label: int
    split: int
    index: int
    stem: str


def _write_picture(job: _Job, *, root: Path, folders: tuple[str, ...], size: int, seed: int):
    bird = birds.bird_class(job.label, seed)
    picture = render_bird(bird, generator(seed, DATASET_KEY, job.split, job.label, job.index), size)
    folder = folders[job.label]
    picture.image.save(root / "CUB_200_2011" / "images" / folder / f"{job.stem}.jpg", **JPEG)
    Image.fromarray(picture.segmentation).save(root / "segmentations" / folder / f"{job.stem}.png", **_PNG)
    Image.fromarray(picture.part_map).save(root / "relmap_truth" / "part_maps" / folder / f"{job.stem}.png", **_PNG)
    return picture.box, picture.points


def render_cub(
    root: Path,
    *,
    classes: int,
    train_per_class: int,
    test_per_class: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write rendered birds under ``root`` as ``CUB_200_2011``, ``segmentations`` and ``relmap_truth``.

    The bytes depend on all arguments but ``workers``; a picture's only on (size, seed, class, split, index).

    Args:
        root: folder to make; replaced whole if it exists.
        classes: 2 to ``birds.MAX_CLASSES``; four a family.
        size: shorter side of the pictures in px, at least 32.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: an argument is impossible, or the disk is full.
    """
    check_sizes(
        "cub200_2011",
        birds.MAX_CLASSES,
        classes=classes,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        size=size,
        seed=seed,
        workers=workers,
    )
    species = [birds.bird_class(label, seed) for label in range(classes)]
    folders = tuple(f"{bird.index + 1:03d}.{bird.name}" for bird in species)
    per_class = train_per_class + test_per_class
    jobs = [
        _Job(
            label=bird.index,
            split=int(index >= train_per_class),
            index=index if index < train_per_class else index - train_per_class,
            stem=f"{bird.name}_{index + 1:04d}_{bird.index * per_class + index + 1}",
        )
        for bird in species
        for index in range(per_class)
    ]
    with atomic_path(root) as temporary:
        for folder in folders:
            for parent in ("CUB_200_2011/images", "segmentations", "relmap_truth/part_maps"):
                (temporary / parent / folder).mkdir(parents=True)
        write = functools.partial(_write_picture, root=temporary, folders=folders, size=size, seed=seed)
        results = list(render_all(write, jobs, workers, progress))
        _write_tables(temporary / "CUB_200_2011", folders, jobs, results)
        _write_truth(temporary / "relmap_truth", species)
        _write_recipes(temporary / RECIPES, jobs, size, seed)


def _write_tables(base: Path, folders: tuple[str, ...], jobs: list[_Job], results: list) -> None:
    (base / "parts").mkdir()

    def write(name: str, lines) -> None:
        (base / name).write_text("".join(f"{line}\n" for line in lines))

    numbered = list(enumerate(zip(jobs, results, strict=True), start=1))
    write("images.txt", (f"{i} {folders[job.label]}/{job.stem}.jpg" for i, (job, _) in numbered))
    write("image_class_labels.txt", (f"{i} {job.label + 1}" for i, (job, _) in numbered))
    write("train_test_split.txt", (f"{i} {1 - job.split}" for i, (job, _) in numbered))
    write("classes.txt", (f"{i} {folder}" for i, folder in enumerate(folders, start=1)))
    write(
        "bounding_boxes.txt",
        (f"{i} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}" for i, (_, ((x0, y0, x1, y1), _)) in numbered),
    )
    write("parts/parts.txt", (f"{i} {name}" for i, name in enumerate(CUB_PARTS, start=1)))
    write(
        "parts/part_locs.txt",
        (
            f"{i} {part} 0.0 0.0 0" if point is None else f"{i} {part} {point[0]:.1f} {point[1]:.1f} 1"
            for i, (_, (_, points)) in numbered
            for part, point in enumerate(points, start=1)
        ),
    )


def _write_recipes(path: Path, jobs: list[_Job], size: int, seed: int) -> None:
    """What each picture is rendered from, for those who render it again with something changed."""
    rows = ((job.stem, job.label, job.split, job.index, size, seed) for job in jobs)
    _write_csv(path, ("image_id", "label", "split", "index", "size", "seed"), rows)


def _write_csv(path: Path, header: tuple[str, ...], rows) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_truth(base: Path, species: list[BirdClass]) -> None:
    _write_csv(base / "parts.csv", ("index", "name"), enumerate(PARTS[1:], start=1))
    _write_csv(
        base / "distinguishing_parts.csv",
        ("class_id", "neighbour_class_id", "part"),
        (
            (species[i].index + 1, species[j].index + 1, part)
            for i, j, parts in birds.neighbours(species)
            for part in parts
        ),
    )
    _write_csv(
        base / "classes.csv",
        ("class_id", "name", "family", *PARTS[1:]),
        (
            (bird.index + 1, bird.name, bird.family + 1, *(str(bird.looks.get(part, "")) for part in PARTS[1:]))
            for bird in species
        ),
    )
