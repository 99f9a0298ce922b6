"""Natural-looking clutter behind and before the objects, and the camera: light, grain, blur."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from relmap.data.render.canvas import Brush, Canvas, Frame, curve, ellipse, regular, stroke
from relmap.data.render.palette import PALETTE

BACKGROUNDS = ("sky", "foliage", "water", "bark", "meadow", "bokeh", "sand", "wall")
OUTDOORS = BACKGROUNDS[:7]


def noise(rng: np.random.Generator, height: int, width: int, rows: float, columns: float) -> np.ndarray:
    """Smooth noise (H, W) in about [-1, 1] with ``rows`` x ``columns`` cells."""
    grid = rng.random((max(2, int(rows)) + 1, max(2, int(columns)) + 1), dtype=np.float32) * 2 - 1
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def fractal(rng: np.random.Generator, height: int, width: int, rows: float = 3, columns: float = 3) -> np.ndarray:
    """Three octaves of noise, (H, W) in about [-1, 1]."""
    total = noise(rng, height, width, rows, columns)
    total = total + 0.5 * noise(rng, height, width, 2 * rows, 2 * columns)
    return (total + 0.3 * noise(rng, height, width, 5 * rows, 5 * columns)) / 1.5


def _mix(first, second, share: np.ndarray) -> np.ndarray:
    first, second = np.float32(first) / 255, np.float32(second) / 255
    return first + (second - first) * np.clip(share, 0, 1)[:, :, None]


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _leaves(rng, picture: np.ndarray, count: int, colours, blur: float) -> np.ndarray:
    """Leaf-shaped blobs over a picture, out of focus by ``blur`` px."""
    height, width = picture.shape[:2]
    image = Image.fromarray(np.clip(picture * 255, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    place = rng.random((count, 6))
    for u, v, size, angle, light, choice in place.tolist():
        length = (0.06 + 0.12 * size) * min(height, width)
        turn = angle * 2 * np.pi
        dx, dy = length * np.cos(turn), length * np.sin(turn)
        x, y = u * width, v * height
        base = colours[int(choice * len(colours))]
        fill = tuple(int(min(255, c * (0.6 + 0.7 * light))) for c in base)
        side = 0.38
        draw.polygon(
            [x - dx, y - dy, x - side * dy, y + side * dx, x + dx, y + dy, x + side * dy, y - side * dx], fill=fill
        )
    if blur > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image, dtype=np.float32) / 255


def background(rng: np.random.Generator, height: int, width: int, kinds=BACKGROUNDS) -> np.ndarray:
    """A random background, (H, W, 3) float32 in [0, 1]."""
    kind = _pick(rng, kinds)
    unit = min(height, width) / 64
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None] + np.zeros((1, width), dtype=np.float32)
    texture = fractal(rng, height, width)
    if kind == "sky":
        top = _pick(rng, ((96, 146, 205), (130, 160, 190), (176, 186, 196), (210, 170, 140), (70, 110, 170)))
        picture = _mix(top, (225, 230, 232), 0.75 * down + 0.45 * texture)
    elif kind == "water":
        ripples = noise(rng, height, width, 14, 3)
        deep, lit = _pick(rng, (((36, 74, 96), (130, 170, 182)), ((52, 88, 74), (150, 170, 140))))
        picture = _mix(deep, lit, 0.35 + 0.35 * down + 0.4 * ripples + 0.2 * texture)
    elif kind == "bark":
        grain = noise(rng, height, width, 3, 16)
        dark, pale = _pick(rng, (((58, 42, 32), (150, 124, 100)), ((70, 68, 62), (168, 164, 150))))
        picture = _mix(dark, pale, 0.45 + 0.4 * grain + 0.3 * texture)
    elif kind == "sand":
        picture = _mix((140, 116, 84), (214, 196, 160), 0.5 + 0.4 * texture + 0.25 * noise(rng, height, width, 24, 24))
    elif kind == "meadow":
        horizon = rng.uniform(0.2, 0.6)
        ground = _mix((62, 84, 34), (150, 160, 74), 0.4 + 0.4 * texture + 0.35 * noise(rng, height, width, 6, 26))
        above = _mix((150, 180, 205), (60, 90, 60), 0.3 + 0.7 * noise(rng, height, width, 3, 6))
        edge = np.clip((down - horizon) * 8 + 0.5 * texture + 0.5, 0, 1)[:, :, None]
        picture = above + (ground - above) * edge
    elif kind == "wall":
        base = np.array(_pick(rng, ((190, 180, 165), (150, 165, 170), (170, 140, 120), (120, 130, 110))))
        floor = rng.uniform(0.55, 0.9)
        picture = _mix(base, base * 0.75, 0.4 + 0.5 * texture)
        wood = _mix((92, 64, 42), (164, 124, 84), 0.5 + 0.5 * noise(rng, height, width, 3, 12))
        picture = np.where((down > floor)[:, :, None], wood, picture)
        if rng.random() < 0.5:
            lines = np.sin(np.arange(width, dtype=np.float32) * np.float32(rng.uniform(0.3, 0.9) / unit))
            picture = picture * (1 + 0.07 * np.sign(lines))[None, :, None]
    else:
        greens = (((30, 52, 24), (104, 134, 58)), ((46, 52, 28), (150, 140, 70)), ((24, 44, 36), (92, 128, 96)))
        dark, pale = _pick(rng, greens)
        picture = _mix(dark, pale, 0.45 + 0.6 * texture)
        colours = (pale, dark, (120, 140, 60), (70, 100, 40), (150, 130, 60))
        picture = _leaves(rng, picture, int(rng.integers(14, 40)), colours, unit * rng.uniform(0.4, 2.2))
        if kind == "bokeh":
            picture = _discs(rng, picture, unit)
    return np.ascontiguousarray(picture, dtype=np.float32)


def _discs(rng: np.random.Generator, picture: np.ndarray, unit: float) -> np.ndarray:
    """Pale out-of-focus discs."""
    height, width = picture.shape[:2]
    plane = Image.new("L", (width, height))
    draw = ImageDraw.Draw(plane)
    for u, v, size, light in rng.random((9, 4)).tolist():
        x, y, radius = u * width, v * height, unit * (2 + 5 * size)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=int(60 + 120 * light))
    share = np.asarray(plane.filter(ImageFilter.GaussianBlur(unit)), dtype=np.float32)[:, :, None] / 255
    return picture + (np.float32((0.95, 0.93, 0.8)) - picture) * share


def distractors(rng: np.random.Generator, picture: np.ndarray, count: int, drawn: bool = True) -> np.ndarray:
    """Berries, petals, flowers and stems in the objects' colours, so that colour alone misleads; out of focus a bit.

    Not ``drawn``, the same picture without them, from the same random numbers.
    """
    height, width = picture.shape[:2]
    unit = min(height, width) / 64
    image = Image.fromarray(np.clip(picture * 255, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    colours = tuple(PALETTE.values())
    placed = rng.random((count, 8)).tolist()
    for u, v, size, aspect, angle, light, choice, form in placed if drawn else ():
        x, y = u * width, v * height
        radius = unit * (2.0 + 4.5 * size)
        base = colours[int(choice * len(colours))]
        fill = tuple(int(min(255, c * (0.65 + 0.45 * light))) for c in base)
        turn = 360 * angle
        frame = Frame.upright(x, y, radius, turn)
        if form < 0.25:
            stem = stroke([(-2.2, 0.0), (0.0, 0.25 * aspect), (2.2, 0.0)], 0.9 * unit / radius)
            draw.polygon(frame.apply(stem).ravel().tolist(), fill=fill)
        if form < 0.45:
            shapes = [ellipse(0, 0, 0.8, 0.3 + 0.5 * aspect)]
        elif form < 0.7:
            shapes = [curve([(1.1, 0), (0, 0.45), (-1.1, 0), (0, -0.45)], 4)]
        else:
            shapes = [ellipse(px, py, 0.36) for px, py in regular(5, 0, 0, 0.52)]
        for shape in shapes:
            draw.polygon(frame.apply(shape).ravel().tolist(), fill=fill)
    image = image.filter(ImageFilter.GaussianBlur(unit * rng.uniform(0.3, 1.3)))
    return np.asarray(image, dtype=np.float32) / 255


def branch(rng: np.random.Generator, canvas: Canvas, start, end, width: float) -> None:
    """A twig from ``start`` to ``end`` (picture px), painted over labels too."""
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    steps = np.linspace(0, 1, 7)[:, None]
    points = start + (end - start) * steps
    points[1:-1] += rng.normal(0, 0.25 * width, (5, 2))
    tone = rng.uniform(0.7, 1.25)
    base = _pick(rng, ((92, 70, 50), (110, 100, 86), (70, 54, 42), (96, 92, 60)))
    dark = tuple(int(c * tone * 0.6) for c in base)
    canvas.fill(stroke(points, width, 0.8 * width), dark, 0)
    canvas.fill(stroke(points - (0, 0.14 * width), 0.62 * width, 0.5 * width), tuple(int(c * tone) for c in base), 0)


def leaf(rng: np.random.Generator, canvas: Canvas, x: float, y: float, length: float) -> None:
    """A leaf in front, about (x, y) px, painted over labels too."""
    base = _pick(rng, ((74, 110, 40), (96, 130, 52), (52, 84, 36), (150, 130, 50), (120, 90, 44)))
    tone = rng.uniform(0.75, 1.25)
    colour = tuple(min(255, int(c * tone)) for c in base)
    brush = Brush(canvas, Frame.upright(x, y, length, angle=rng.uniform(0, 360)), np.ones(3))
    outline = curve([(-0.5, 0), (-0.2, 0.2), (0.2, 0.17), (0.5, 0), (0.2, -0.17), (-0.2, -0.2)], 4)
    brush.fill(outline, colour, 0, 0.85)
    brush.fill(outline * (1, 0.5) + (0, 0.09), colour, 0, 1.1)
    brush.fill(stroke([(-0.5, 0), (0, 0.0), (0.48, 0)], 0.05), colour, 0, 0.6)


def occlude(rng: np.random.Generator, canvas: Canvas, centre, reach: float, keep: float = 0.68) -> bool:
    """Leaves and twigs in front of what stands at ``centre`` px; undone if less than ``keep`` of it stays visible.

    Returns:
        Whether they stayed.
    """
    unit = min(canvas.height, canvas.width) / 64
    before, planes = canvas.visible(), canvas.snapshot()
    for _ in range(int(rng.integers(1, 4))):
        angle, distance = rng.uniform(0, 2 * np.pi), reach * rng.uniform(0.3, 1.1)
        x, y = centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle)
        if rng.random() < 0.7:
            leaf(rng, canvas, x, y, unit * rng.uniform(9, 20))
        else:
            turn = rng.uniform(0, np.pi)
            dx, dy = 45 * unit * np.cos(turn), 45 * unit * np.sin(turn)
            branch(rng, canvas, (x - dx, y - dy), (x + dx, y + dy), unit * rng.uniform(1.3, 3.0))
    stays = canvas.visible() >= keep * before
    if not stays:
        canvas.restore(planes)
    return stays


def light_direction(rng: np.random.Generator) -> tuple[float, float, float]:
    """Unit vector towards the light, mostly from above (picture y points down)."""
    vector = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.85, -0.25), rng.uniform(0.45, 0.8)])
    x, y, z = (vector / np.linalg.norm(vector)).tolist()
    return x, y, z


def expose(rng: np.random.Generator, picture: np.ndarray, light: tuple[float, float, float]) -> Image.Image:
    """The camera: light gradient across the picture, white balance, exposure, contrast, blur and grain; 8-bit RGB."""
    height, width = picture.shape[:2]
    strength = rng.uniform(0.0, 0.3)
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    gradient = 1 + np.float32(strength) * (np.float32(light[0]) * columns + np.float32(light[1]) * rows)
    balance = rng.normal(1, 0.035, 3).astype(np.float32) * np.float32(rng.uniform(0.86, 1.15))
    contrast = np.float32(rng.uniform(0.82, 1.1))
    picture = (picture * gradient[:, :, None] * balance - 0.45) * contrast + 0.45
    grain = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(rng.uniform(0.006, 0.03))
    blur = rng.uniform(0.0, 0.6) * min(height, width) / 96
    image = Image.fromarray(np.clip((picture + grain) * 255, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.25 else image
