"""Pictures of the ImageNet role: one to three objects of a class in clutter, with their boxes.

Many classes are birds of another world than the CUB role's (``birds.bird_class`` with another stream), told apart by
the same kinds of parts, and most animals by their patterns: what a network learns here serves for the CUB role.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from relmap.data.render import birds, textures
from relmap.data.render.birds import PARTS, BirdClass
from relmap.data.render.canvas import LABELS, Brush, Canvas, Frame
from relmap.data.render.catalogue import CLASSES, SceneClass
from relmap.data.render.jobs import picture_shape, tight_box

BIRD_STREAM = 1


@dataclass(frozen=True)
class ScenePicture:
    """A rendered scene.

    Attributes:
        image: the picture.
        boxes: (x0, y0, x1, y1) in pixel edges of the objects of its class.
        mask: bool (H, W), what shows of these objects.
    """

    image: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]
    mask: np.ndarray


@dataclass(frozen=True)
class Figure:
    """An object before it is placed: its class, its posture, and the box that it takes up at scale 1 about its origin.

    ``extent`` is [[x0, y0], [x1, y1]], y down.
    """

    kind: SceneClass
    extent: np.ndarray
    angle: float
    flip: bool
    squeeze: float
    bird: BirdClass | None = None
    pose: birds.Pose | None = None

    @property
    def span(self) -> np.ndarray:
        """(width, height) at scale 1."""
        return self.extent[1] - self.extent[0]

    def frame(self, corner: np.ndarray, scale: float) -> Frame:
        """Its frame when the box's upper left corner lies at ``corner`` px."""
        return Frame.upright(*(corner - scale * self.extent[0]), scale, self.angle, self.flip, self.squeeze)

    def draw(self, canvas: Canvas, frame: Frame, rng: np.random.Generator, instance: int) -> None:
        """Paint it as the picture's object number ``instance``, from 1."""
        tint = rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.1)
        brush = Brush(canvas, frame, tint, instance)
        if self.bird is not None and self.pose is not None:
            birds.draw_bird(brush, self.bird, self.pose, rng.normal(1, 0.05, len(PARTS)).clip(0.85, 1.15))
        elif self.kind.draw is not None:
            self.kind.draw(brush, rng)


def random_figure(kind: SceneClass, rng: np.random.Generator, seed: int) -> Figure:
    """An object of a class in a random posture; ``seed`` chooses the looks of the bird classes."""
    flip = bool(rng.random() < 0.5)
    squeeze = rng.uniform(0.82, 1.0)
    angle = float(np.clip(rng.normal(0, 0.5), -1, 1)) * kind.upright
    if kind.bird is None:
        return Figure(kind, np.array([[-0.5, -0.5], [0.5, 0.5]]), angle, flip, squeeze)
    bird = birds.bird_class(kind.bird, seed, BIRD_STREAM)
    pose = birds.random_pose(rng)
    return Figure(kind, birds.extent(bird, pose), pose.tilt, pose.flip, pose.squeeze, bird, pose)


def shaded(scene: np.ndarray, frames: Iterable[Frame]) -> np.ndarray:
    """The background (H, W, 3) with a soft shadow at the foot of each object."""
    height, width = scene.shape[:2]
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for frame in frames:
        x, y = frame.apply(np.array([(0.0, -0.38)]))[0]
        wide = np.float32(0.32 * frame.scale)
        shadow = np.exp(-(((columns - np.float32(x)) / wide) ** 2) - ((rows - np.float32(y)) / (0.3 * wide)) ** 2)
        scene = scene * (1 - np.float32(0.45) * shadow)[:, :, None]
    return scene


def render_scene(number: int, rng: np.random.Generator, size: int, seed: int, most: int = 3) -> ScenePicture:
    """Render a scene of class ``CLASSES[number]``: one to three of its objects in clutter.

    Args:
        size: shorter side in px.
        seed: chooses the looks of the bird classes.
        most: objects at most.
    """
    kind = CLASSES[number]
    height, width = picture_shape(rng, size)
    unit = size / 64
    scene = textures.background(rng, height, width)
    if rng.random() < 0.85:
        scene = textures.distractors(rng, scene, int(rng.integers(3, 11)))
    count = int(rng.choice([1, 1, 1, 1, 1, 1, 1, 2, 2, 3]))
    if kind.bird is not None and rng.random() < 0.7:
        count = 1
    count = min(count, most)
    spread = (0.7, 1.0) if count == 1 else (0.38, 0.62)
    placed: list[tuple[Figure, Frame]] = []
    for place in rng.permutation(count):
        figure = random_figure(kind, rng, seed)
        scale = rng.uniform(*spread) * min(width / figure.span[0], height / figure.span[1])
        room = np.array([width, height]) - scale * figure.span
        # Several objects stand side by side, with some overlap.
        share = rng.uniform(0, 1, (2, 2)).mean(0)
        share[0] = (place + share[0]) / count
        placed.append((figure, figure.frame(share * room, scale)))
    canvas = Canvas(shaded(scene, (frame for _, frame in placed)))
    for instance, (figure, frame) in enumerate(placed, start=1):
        figure.draw(canvas, frame, rng, instance)
    if rng.random() < 0.4:
        origin, scale = placed[0][1].origin, placed[0][1].scale
        textures.occlude(rng, canvas, origin + rng.normal(0, 3 * unit, 2), 0.3 * scale)
    light = textures.light_direction(rng)
    cover, labels = canvas.label_planes()
    image = textures.expose(rng, canvas.picture(cover, labels, light), light)
    instances = np.where(cover > 0.5, labels // LABELS, 0)
    boxes = [tight_box(instances == instance) for instance in range(1, count + 1)]
    # A sliver that shows behind another object is no object to find.
    least = (0.12 * size) ** 2
    kept = tuple(box for box in boxes if box is not None and (box[2] - box[0]) * (box[3] - box[1]) >= least)
    return ScenePicture(image, kept, instances > 0)
