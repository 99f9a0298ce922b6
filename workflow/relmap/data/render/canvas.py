"""A supersampled canvas: colour and label planes painted together, so that every picture comes with its truth.

Objects are drawn as polygons at ``SUPERSAMPLE`` times the picture's resolution. Whatever covers an object also covers
its labels, so masks, part maps and boxes always describe what is visible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

SUPERSAMPLE = 3
LABELS = 32
"""Labels an object may use (0 is no object); labels are bytes, so a picture has room for seven objects."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Frame:
    """An affine frame: local coordinates (x right, y up, in object units) to picture pixels (x right, y down).

    ``matrix`` is 2 x 2 and ``origin`` the picture position of the local origin.
    """

    matrix: np.ndarray
    origin: np.ndarray

    @classmethod
    def upright(cls, x: float, y: float, scale: float, angle: float = 0.0, flip: bool = False, squeeze: float = 1.0):
        """Frame at (x, y) px with ``scale`` px a unit, turned by ``angle`` degrees (anticlockwise), mirrored if asked.

        ``squeeze`` shortens the local x axis (an object seen obliquely).
        """
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        side = -1.0 if flip else 1.0
        matrix = np.array([[side * cosine * squeeze, -side * sine], [-sine * squeeze, -cosine]]) * scale
        return cls(matrix, np.array([x, y], dtype=np.float64))

    def child(self, x: float, y: float, angle: float = 0.0, scale: float = 1.0) -> Frame:
        """A frame inside this one: at local (x, y), turned by ``angle`` degrees, scaled."""
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.array([[cosine, -sine], [sine, cosine]]) * scale
        return Frame(self.matrix @ turn, self.origin + self.matrix @ np.array([x, y]))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Local points (N, 2) to picture points (N, 2)."""
        return np.asarray(points) @ self.matrix.T + self.origin

    @property
    def scale(self) -> float:
        """Pixels a local unit (geometric mean over directions)."""
        matrix = self.matrix
        return math.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))


@dataclass(frozen=True)
class Bulge:
    """Labels that are shaded as one ellipsoid, given in the coordinates of ``frame``."""

    labels: tuple[int, ...]
    frame: Frame
    centre: tuple[float, float]
    radii: tuple[float, float]


def curve(points, steps: int = 5) -> np.ndarray:
    """Closed Catmull-Rom curve through ``points`` (N, 2), as a polygon (N * steps, 2)."""
    points = np.asarray(points, dtype=np.float64)
    t = (np.arange(steps) / steps)[:, None, None]
    before, after, beyond = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    polygon = 0.5 * (
        2 * points
        + (after - before) * t
        + (2 * before - 5 * points + 4 * after - beyond) * t**2
        + (3 * points - before - 3 * after + beyond) * t**3
    )
    return polygon.transpose(1, 0, 2).reshape(-1, 2)


_CIRCLE = np.stack([np.cos(np.arange(28) * 2 * np.pi / 28), np.sin(np.arange(28) * 2 * np.pi / 28)], 1)


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> np.ndarray:
    """Ellipse about (x, y) as a polygon."""
    return _CIRCLE * (rx, rx if ry is None else ry) + (x, y)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Rectangle as a polygon."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def stroke(points, start: float, end: float | None = None) -> np.ndarray:
    """Open line through ``points`` as a polygon whose width goes from ``start`` to ``end``."""
    points = np.asarray(points, dtype=np.float64)
    direction = np.gradient(points, axis=0)
    length = np.maximum(np.hypot(direction[:, 0], direction[:, 1]), 1e-9)[:, None]
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1) / length
    width = np.linspace(start, start if end is None else end, len(points))[:, None] / 2
    return np.concatenate([points + normal * width, (points - normal * width)[::-1]])


def regular(corners: int, x: float, y: float, outer: float, inner: float | None = None, turn: float = 90.0):
    """Regular polygon, or a star when ``inner`` is given."""
    count = corners if inner is None else 2 * corners
    angles = math.radians(turn) + np.arange(count) * 2 * np.pi / count
    radius = np.full(count, outer)
    if inner is not None:
        radius[1::2] = inner
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


class Canvas:
    """Colour and label planes of one picture under construction.

    Args:
        background: (H, W, 3) float32 in [0, 1].
    """

    def __init__(self, background: np.ndarray):
        self.height, self.width = background.shape[:2]
        picture = Image.fromarray(np.clip(background * 255, 0, 255).astype(np.uint8))
        size = (self.width * SUPERSAMPLE, self.height * SUPERSAMPLE)
        self.colour = picture.resize(size, Image.Resampling.BILINEAR)
        self.labels = Image.new("L", size)
        self.bulges: list[Bulge] = []
        self._bind()

    def _bind(self) -> None:
        self._draw_colour = ImageDraw.Draw(self.colour)
        self._draw_labels = ImageDraw.Draw(self.labels)

    def snapshot(self) -> tuple[Image.Image, Image.Image]:
        """Copies of both planes, for ``restore``."""
        return self.colour.copy(), self.labels.copy()

    def restore(self, planes: tuple[Image.Image, Image.Image]) -> None:
        """Take back everything painted since ``planes`` were copied."""
        self.colour, self.labels = planes
        self._bind()

    def fill(self, points: np.ndarray, colour: Colour, label: int) -> None:
        """Paint a polygon given in picture pixels."""
        corners = (points * SUPERSAMPLE).ravel().tolist()
        self._draw_colour.polygon(corners, fill=colour)
        self._draw_labels.polygon(corners, fill=label)

    def mask(self, points: np.ndarray) -> Image.Image:
        """A polygon in picture pixels as an 8-bit mask of the supersampled plane."""
        mask = Image.new("L", self.colour.size)
        ImageDraw.Draw(mask).polygon((points * SUPERSAMPLE).ravel().tolist(), fill=255)
        return mask

    def paint(self, mask: Image.Image, colour: Colour, label: int | None) -> None:
        """Paint where ``mask`` is set; ``label`` None leaves the labels as they are."""
        box = mask.getbbox()
        if box is None:
            return
        if box != (0, 0, *mask.size):
            mask = mask.crop(box)
        self.colour.paste(colour, box, mask)
        if label is not None:
            self.labels.paste(label, box, mask)

    def visible(self) -> int:
        """Number of supersampled pixels that belong to an object."""
        histogram = self.labels.histogram()
        return sum(histogram[1:])

    def label_planes(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels at the picture's resolution.

        Returns:
            cover: (H, W) float32, the share of each pixel that an object covers.
            labels: (H, W) uint8, the label at the pixel's centre, or the highest one in it where the centre has none.
        """
        fine = np.asarray(self.labels).reshape(self.height, SUPERSAMPLE, self.width, SUPERSAMPLE)
        cover = np.count_nonzero(fine, axis=(1, 3)).astype(np.float32) / SUPERSAMPLE**2
        centre = fine[:, SUPERSAMPLE // 2, :, SUPERSAMPLE // 2]
        return cover, np.where(centre > 0, centre, fine.max(axis=(1, 3)))

    def picture(self, cover: np.ndarray, labels: np.ndarray, light: tuple[float, float, float]) -> np.ndarray:
        """The painted picture, (H, W, 3) float32 in [0, 1], its bulges shaded by ``light`` (unit vector, y down)."""
        flat = np.asarray(self.colour.reduce(SUPERSAMPLE), dtype=np.float32) / 255
        shade = np.ones((self.height, self.width), dtype=np.float32)
        for bulge in self.bulges:
            member = np.zeros(256, dtype=bool)
            member[list(bulge.labels)] = True
            np.copyto(shade, self._lambert(bulge, light), where=member[labels])
        return flat * (1 + cover * (shade - 1))[:, :, None]

    def _lambert(self, bulge: Bulge, light: tuple[float, float, float]) -> np.ndarray:
        inverse = np.linalg.inv(bulge.frame.matrix)
        columns = np.arange(self.width, dtype=np.float32) + np.float32(0.5 - bulge.frame.origin[0])
        rows = (np.arange(self.height, dtype=np.float32) + np.float32(0.5 - bulge.frame.origin[1]))[:, None]
        u = (columns * np.float32(inverse[0, 0]) + rows * np.float32(inverse[0, 1]) - np.float32(bulge.centre[0])) / (
            np.float32(bulge.radii[0])
        )
        v = (columns * np.float32(inverse[1, 0]) + rows * np.float32(inverse[1, 1]) - np.float32(bulge.centre[1])) / (
            np.float32(bulge.radii[1])
        )
        depth = np.sqrt(np.maximum(np.float32(0.05), 1 - u * u - v * v))
        axes = bulge.frame.matrix / bulge.frame.scale
        along_u = float(axes[0, 0] * light[0] + axes[1, 0] * light[1])
        along_v = float(axes[0, 1] * light[0] + axes[1, 1] * light[1])
        lit = np.float32(along_u) * u + np.float32(along_v) * v + np.float32(light[2]) * depth
        return np.clip(np.float32(0.58) + np.float32(0.62) * lit, np.float32(0.42), np.float32(1.25))


class Brush:
    """Draws in a frame's local coordinates, with one tint for the whole object.

    Args:
        canvas: where to paint.
        frame: the object's frame.
        tint: factor per colour channel (colour jitter of this object).
        instance: number of the object in its picture; its labels are ``instance * LABELS`` + the part's.
    """

    def __init__(self, canvas: Canvas, frame: Frame, tint: np.ndarray, instance: int = 0):
        self.canvas, self.frame, self.tint, self.instance = canvas, frame, tint, instance

    def at(self, frame: Frame) -> Brush:
        """The same brush in another frame."""
        return Brush(self.canvas, frame, self.tint, self.instance)

    def colour(self, colour: Colour, factor: float = 1.0) -> Colour:
        """Apply the tint and a brightness factor."""
        red, green, blue = (min(255, max(0, int(c * t * factor))) for c, t in zip(colour, self.tint, strict=True))
        return red, green, blue

    def _number(self, label: int) -> int:
        return label + self.instance * LABELS if label else 0

    def fill(self, points: np.ndarray, colour: Colour, label: int = 1, factor: float = 1.0) -> None:
        """Paint a polygon."""
        self.canvas.fill(self.frame.apply(points), self.colour(colour, factor), self._number(label))

    def mask(self, points: np.ndarray, clip: Image.Image | None = None) -> Image.Image:
        """A polygon as a mask, cut to ``clip``."""
        mask = self.canvas.mask(self.frame.apply(points))
        return mask if clip is None else ImageChops.darker(mask, clip)

    def paint(self, mask: Image.Image, colour: Colour, label: int | None = 1, factor: float = 1.0) -> None:
        """Paint a mask."""
        self.canvas.paint(mask, self.colour(colour, factor), None if label is None else self._number(label))

    def pattern(
        self, clip: Image.Image, kind: str, box: tuple[float, float, float, float], colour: Colour, step: float
    ) -> None:
        """Cover ``clip`` with a pattern over the local ``box`` (x0, y0, x1, y1) at ``step`` units; labels stay.

        Kinds: ``bars`` (lines along y), ``streaks`` (dashes along x), ``spots``, ``scallops``, ``checks``.
        """
        if kind == "plain":
            return
        x0, y0, x1, y1 = box
        # Patterns finer than about three pixels a period would be lost in the picture.
        step = max(step, 3.2 / self.frame.scale)
        columns = np.arange(x0 + step / 2, x1 + step / 2, step)
        rows = np.arange(y0 + step / 2, y1 + step / 2, step)
        mask = Image.new("L", self.canvas.colour.size)
        draw = ImageDraw.Draw(mask)
        if kind == "bars":
            for x in columns:
                self._mark(draw, rectangle(x - 0.24 * step, y0, x + 0.24 * step, y1))
        else:
            for i, y in enumerate(rows):
                for x in columns + (0.5 * step if i % 2 else 0.0):
                    if kind == "spots":
                        self._mark(draw, regular(7, x, y, 0.33 * step))
                    elif kind == "streaks":
                        self._mark(draw, rectangle(x - 0.42 * step, y - 0.17 * step, x + 0.3 * step, y + 0.17 * step))
                    elif kind == "scallops":
                        self._mark(
                            draw,
                            np.array(
                                [(x, y + 0.5 * step), (x - 0.45 * step, y), (x, y - 0.5 * step), (x - 0.1 * step, y)]
                            ),
                        )
                    elif kind == "checks":
                        self._mark(draw, rectangle(x - 0.25 * step, y - 0.5 * step, x + 0.25 * step, y + 0.5 * step))
                    else:
                        raise ValueError(f"unknown pattern {kind!r}")
        self.paint(ImageChops.darker(mask, clip), colour, None)

    def _mark(self, draw: ImageDraw.ImageDraw, points: np.ndarray) -> None:
        draw.polygon((self.frame.apply(points) * SUPERSAMPLE).ravel().tolist(), fill=255)

    def bulge(self, labels: tuple[int, ...], x: float, y: float, rx: float, ry: float) -> None:
        """Shade ``labels`` as an ellipsoid in this frame."""
        members = tuple(self._number(label) for label in labels)
        self.canvas.bulges.append(Bulge(members, self.frame, (x, y), (rx, ry)))
