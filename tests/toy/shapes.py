"""The toy data set: a red square, a green disc or a blue triangle on grey.

Its format: ``pictures/*.png``, and ``index.csv`` with a line a picture: ``file``, ``split`` (train or test), ``shape``,
and its box ``left``, ``top``, ``right``, ``bottom`` in pixels, right and bottom outside.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from relmap.data.decoding import read_size
from relmap.data.manifest import build_manifest
from relmap.data.render.jobs import tight_box
from relmap.errors import InputError
from relmap.job.files import atomic_path

SHAPES = ("square", "disc", "triangle")
COLUMNS = ("file", "split", "shape", "left", "top", "right", "bottom")


def read_shapes(root, *, dataset, workers=1, classes=None, require_training=True):
    """The manifest of the pictures that ``index.csv`` lists."""
    index = Path(root) / "index.csv"
    with open(index, newline="") as file:
        lines = list(csv.DictReader(file))
    unknown = [line["shape"] for line in lines if line["shape"] not in SHAPES]
    if unknown:
        raise InputError(f"{index}: unknown shape {unknown[0]!r}; correct it to one of {', '.join(SHAPES)}")
    rows = []
    for line in lines:
        path = f"pictures/{line['file']}"
        width, height = read_size(index.parent / path)
        rows.append(
            {
                "image_id": Path(path).stem,
                "path": path,
                "split": line["split"],
                "labels": [SHAPES.index(line["shape"])],
                "boxes": [[float(line[side]) for side in ("left", "top", "right", "bottom")]],
                "width": width,
                "height": height,
            }
        )
    return build_manifest(dataset, root, rows, SHAPES, require_training=require_training, workers=workers)


def render_shapes(root, *, seed, train_per_class, test_per_class, size, workers=1):
    """Write pictures of ``size`` x ``size`` pixels, as many of each shape as asked for, and their index."""
    rng = np.random.default_rng(seed)
    with atomic_path(root) as folder:
        (folder / "pictures").mkdir(parents=True)
        with open(folder / "index.csv", "w", newline="") as file:
            index = csv.writer(file)
            index.writerow(COLUMNS)
            for split, count in (("train", train_per_class), ("test", test_per_class)):
                for number in range(count * len(SHAPES)):
                    label = number % len(SHAPES)
                    name = f"{split}_{number:04}.png"
                    pixels, box = picture(label, size, rng)
                    Image.fromarray(pixels).save(folder / "pictures" / name)
                    index.writerow((name, split, SHAPES[label], *box))


def picture(label, size, rng):
    """One shape somewhere on noisy grey: uint8 (size, size, 3), and its box."""
    radius = size * rng.uniform(0.18, 0.3)
    x0, y0 = rng.uniform(radius, size - radius, 2)
    y, x = np.mgrid[:size, :size] + 0.5
    dx, dy = np.abs(x - x0), y - y0
    inside = [
        np.maximum(dx, np.abs(dy)) < radius,
        np.hypot(dx, dy) < radius,
        (np.abs(dy) < radius) & (dx < (dy + radius) / 2),
    ][label]
    pixels = rng.normal(128, 12, (size, size, 3))
    pixels[inside] += 70 * (2 * np.eye(3)[label] - 1)
    return pixels.clip(0, 255).astype(np.uint8), tight_box(inside)
