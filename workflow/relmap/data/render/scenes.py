"""Pictures of the ImageNet role: one to three objects of a class in clutter, with their boxes.

Many classes are birds of another world than the CUB role's (``birds.bird_class`` with another stream), told apart by
the same kinds of parts, and most animals by their patterns: what a network learns here serves for the CUB role.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from relmap.data.render import birds, textures
from relmap.data.render.birds import PARTS, BirdClass
from relmap.data.render.canvas import LABELS, Brush, Canvas, Frame
from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import picture_shape, tight_box

BIRD_STREAM = 1


@dataclass(frozen=True)
class ScenePicture:
    """A rendered scene and the boxes (x0, y0, x1, y1) in pixel edges of the objects of its class."""

    image: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]


def render_scene(number: int, rng: np.random.Generator, size: int, seed: int) -> ScenePicture:
    """Render a scene of class ``CLASSES[number]``: one to three of its objects in clutter.

    Args:
        size: shorter side in px.
        seed: chooses the looks of the bird classes.
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
    spread = (0.7, 1.0) if count == 1 else (0.38, 0.62)
    extent = np.array([[-0.5, -0.5], [0.5, 0.5]])
    placed: list[tuple[Frame, BirdClass | None, birds.Pose | None]] = []
    for place in rng.permutation(count):
        flip = bool(rng.random() < 0.5)
        bird, pose, squeeze = None, None, rng.uniform(0.82, 1.0)
        angle = float(np.clip(rng.normal(0, 0.5), -1, 1)) * kind.upright
        if kind.bird is not None:
            bird = birds.bird_class(kind.bird, seed, BIRD_STREAM)
            pose = birds.random_pose(rng)
            extent = birds.extent(bird, pose)
            flip, angle, squeeze = pose.flip, pose.tilt, pose.squeeze
        span = extent[1] - extent[0]
        scale = rng.uniform(*spread) * min(width / span[0], height / span[1])
        room = np.array([width, height]) - scale * span
        # Several objects stand side by side, with some overlap.
        share = rng.uniform(0, 1, (2, 2)).mean(0)
        share[0] = (place + share[0]) / count
        placed.append((Frame.upright(*(share * room - scale * extent[0]), scale, angle, flip, squeeze), bird, pose))
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for frame, _, _ in placed:
        x, y = frame.apply(np.array([(0.0, -0.38)]))[0]
        wide = np.float32(0.32 * frame.scale)
        shadow = np.exp(-(((columns - np.float32(x)) / wide) ** 2) - ((rows - np.float32(y)) / (0.3 * wide)) ** 2)
        scene = scene * (1 - np.float32(0.45) * shadow)[:, :, None]
    canvas = Canvas(scene)
    for instance, (frame, bird, pose) in enumerate(placed, start=1):
        tint = rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.1)
        brush = Brush(canvas, frame, tint, instance)
        if bird is not None and pose is not None:
            birds.draw_bird(brush, bird, pose, rng.normal(1, 0.05, len(PARTS)).clip(0.85, 1.15))
        elif kind.draw is not None:
            kind.draw(brush, rng)
    if rng.random() < 0.4:
        textures.occlude(rng, canvas, placed[0][0].origin + rng.normal(0, 3 * unit, 2), 0.3 * placed[0][0].scale)
    light = textures.light_direction(rng)
    cover, labels = canvas.label_planes()
    image = textures.expose(rng, canvas.picture(cover, labels, light), light)
    instances = np.where(cover > 0.5, labels // LABELS, 0)
    boxes = [tight_box(instances == instance) for instance in range(1, count + 1)]
    # A sliver that shows behind another object is no object to find.
    least = (0.12 * size) ** 2
    kept = tuple(box for box in boxes if box is not None and (box[2] - box[0]) * (box[3] - box[1]) >= least)
    return ScenePicture(image, kept)
