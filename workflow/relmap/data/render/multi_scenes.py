"""Pictures of the VOC and COCO roles: two to five objects of several classes in clutter, overlapping, with their masks.

The classes are some of the ImageNet role's, drawn alike, so that a network that knows those can learn these fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from relmap.data.render import textures
from relmap.data.render.canvas import LABELS, Canvas, Frame
from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import tight_box
from relmap.data.render.scenes import Figure, random_figure, shaded

_FAMILY = 4
"""Bird classes that differ from each other in single parts only; at most one of a family is among the classes."""
_COUNTS, _COUNT_SHARES = (2, 3, 4, 5), (0.5, 0.25, 0.15, 0.1)
# Longer relative side of an object, as a share of the picture's: of the first, of others, and of small ones.
_LARGE, _MIDDLE, _SMALL = (0.8, 1.0), (0.55, 0.95), (0.18, 0.3)
_SMALL_SHARE = 0.12
_SAME_CLASS = 0.25
# Boxes may share so much of the smaller one's area; a place that shares more is drawn anew so often, ever smaller.
_OVERLAP, _TRIES, _SHRINK = 0.35, 12, 0.96
# What shows of an object, as a share of it: under the first it is difficult, under the second no object to find.
_OCCLUDED, _HIDDEN = 0.45, 0.12
# Sides of a box, as a share of the shorter side of the picture, with the same meaning.
_TINY, _SLIVER = 0.2, 0.08
# Widths over heights of a camera's pictures, and their shares: few, as in VOC, so that many pictures have one size.
_RATIOS, _RATIO_SHARES = (4 / 3, 3 / 4, 1.0), (0.65, 0.2, 0.15)


@dataclass(frozen=True)
class SceneObject:
    """An object of a rendered scene.

    Attributes:
        number: its class, ``CLASSES[number]``.
        box: (x0, y0, x1, y1) in pixel edges, of what shows of it.
        mask: bool (H, W), what shows of it.
        truncated: it touches the picture's border.
        difficult: it is small, or mostly hidden.
    """

    number: int
    box: tuple[int, int, int, int]
    mask: np.ndarray
    truncated: bool
    difficult: bool


@dataclass(frozen=True)
class MultiScene:
    """A rendered scene and its objects, the farthest first."""

    image: Image.Image
    objects: tuple[SceneObject, ...]


def _camera_shape(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """(height, width) whose shorter side is ``size``."""
    ratio = float(rng.choice(_RATIOS, p=_RATIO_SHARES))
    return round(size * max(1.0, 1 / ratio)), round(size * max(1.0, ratio))


def scene_classes(count: int) -> list[int]:
    """Numbers in ``CLASSES`` of ``count`` classes, ascending: three animals or things to a bird, no two of a family.

    They are below ``1.5 * count``, so an ImageNet role with so many classes has them all.
    """
    birds = [n for n, kind in enumerate(CLASSES) if kind.bird is not None]
    families = {CLASSES[n].bird // _FAMILY: n for n in reversed(birds)}
    first = sorted(families.values())
    others = [n for n, kind in enumerate(CLASSES) if kind.bird is None]
    wanted = math.ceil(count / 4)
    return sorted(first[:wanted] + others[: count - wanted])


def most_classes() -> int:
    """The largest ``count`` that ``scene_classes`` can give."""
    return next(n for n in range(len(CLASSES), 0, -1) if len(scene_classes(n)) == n)


def render_multi_scene(
    numbers: Sequence[int], rng: np.random.Generator, size: int, seed: int, empty: bool = False
) -> MultiScene:
    """Render two to five objects of the classes ``numbers``, no more than there are classes; two show in any case.

    Args:
        size: shorter side in px.
        seed: chooses the looks of the bird classes.
        empty: a picture of clutter alone.
    """
    while True:
        count = min(int(rng.choice(_COUNTS, p=_COUNT_SHARES)), len(numbers))
        scene = _attempt(numbers, rng, size, seed, 0 if empty else count)
        if empty or len(scene.objects) > 1:
            return scene


def _attempt(numbers: Sequence[int], rng: np.random.Generator, size: int, seed: int, count: int) -> MultiScene:
    height, width = _camera_shape(rng, size)
    background = textures.background(rng, height, width)
    if rng.random() < 0.7:
        background = textures.distractors(rng, background, int(rng.integers(3, 9)))
    chosen = _choose(numbers, rng, count)
    placed = _place([random_figure(CLASSES[number], rng, seed) for number in chosen], rng, width, height)
    canvas = Canvas(shaded(background, (frame for _, frame in placed)))
    whole = []
    for instance, (figure, frame) in enumerate(placed, start=1):
        figure.draw(canvas, frame, rng, instance)
        whole.append(_shown(canvas, instance)[-1])
    shown = _shown(canvas, count) / np.maximum(whole, 1)
    light = textures.light_direction(rng)
    cover, labels = canvas.label_planes()
    image = textures.expose(rng, canvas.picture(cover, labels, light), light)
    instances = np.where(cover > 0.5, labels // LABELS, 0)
    objects = []
    for instance, ((figure, _), shows) in enumerate(zip(placed, shown, strict=True), start=1):
        mask = instances == instance
        box = tight_box(mask)
        if box is None or shows < _HIDDEN or min(box[2] - box[0], box[3] - box[1]) < _SLIVER * size:
            continue
        longer = max(box[2] - box[0], box[3] - box[1])
        edge = box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height
        difficult = bool(shows < _OCCLUDED or longer < _TINY * size)
        objects.append(SceneObject(CLASSES.index(figure.kind), box, mask, edge, difficult))
    return MultiScene(image, tuple(objects))


def _choose(numbers: Sequence[int], rng: np.random.Generator, count: int) -> list[int]:
    """Classes of the objects: different ones, but now and then, from the third on, one more of the first."""
    chosen = rng.permutation(numbers)[:count].tolist()
    return [chosen[0] if i > 1 and rng.random() < _SAME_CLASS else number for i, number in enumerate(chosen)]


def _place(figures: Sequence[Figure], rng: np.random.Generator, width: int, height: int) -> list[tuple[Figure, Frame]]:
    """Each figure with its frame, the largest first, so that smaller ones stand before it; one in four the other way.

    A place is drawn until it hides little of what is there already; what finds none shrinks, and in the end takes the
    best that was seen.
    """
    sides = np.array([width, height])
    placed: list[tuple[float, Figure, Frame]] = []
    boxes: list[list[float]] = []
    for order, figure in enumerate(figures):
        small = order > 0 and rng.random() < _SMALL_SHARE
        largest = rng.uniform(*(_SMALL if small else _MIDDLE if order else _LARGE)) * (sides / figure.span).min()
        tried = []
        for scale in largest * _SHRINK ** np.arange(_TRIES if order else 1):
            corner = rng.random(2) * (sides - scale * figure.span)
            box = [*corner.tolist(), *(corner + scale * figure.span).tolist()]
            tried.append((max((_overlap(box, other) for other in boxes), default=0.0), scale, corner, box))
            if tried[-1][0] < _OVERLAP:
                break
        _, scale, corner, box = min(tried, key=lambda one: one[0])
        boxes.append(box)
        placed.append((scale, figure, figure.frame(corner, scale)))
    backwards = rng.random() < 0.25
    placed.sort(key=lambda one: one[0] if backwards else -one[0])
    return [(figure, frame) for _, figure, frame in placed]


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Area that two boxes share, as a share of the smaller one's."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    tall = min(first[3], second[3]) - max(first[1], second[1])
    least = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return max(wide, 0.0) * max(tall, 0.0) / least


def _shown(canvas: Canvas, count: int) -> np.ndarray:
    """(count,) supersampled pixels that show of each object."""
    counts = np.array(canvas.labels.histogram()).reshape(-1, LABELS).sum(1)
    return counts[1 : count + 1]
