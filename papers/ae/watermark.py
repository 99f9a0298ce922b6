"""A watermark that goes with one class, so that a network trained on it takes the mark for the class (Figure 6).

The mark is a line of white strokes, half transparent, near the lower edge, where it moves a little from picture to
picture. Its region is the rectangle round the strokes.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

# Strokes of six letters, from (x, y) to (x, y) in a letter's box of 1 x 1.
_LETTERS = (
    (((0, 0), (0.25, 1)), ((0.25, 1), (0.5, 0.3)), ((0.5, 0.3), (0.75, 1)), ((0.75, 1), (1, 0))),
    (((0, 1), (0.5, 0)), ((0.5, 0), (1, 1)), ((0.2, 0.6), (0.8, 0.6))),
    (((0, 0), (1, 0)), ((0.5, 0), (0.5, 1))),
    (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0.5), (0.8, 0.5)), ((0, 1), (1, 1))),
    (((0, 1), (0, 0)), ((0, 0), (0.9, 0.2)), ((0.9, 0.2), (0, 0.5)), ((0, 0.5), (1, 1))),
    (((0, 0), (0, 1)), ((1, 0), (0, 0.5)), ((0, 0.5), (1, 1))),
)
_FINER = 8
_MARGIN = 0.04  # from the picture's edge, in sides
_JITTER = 0.12  # how far the mark moves, in sides


def strokes(side: int, width: float) -> Tensor:
    """Coverage of the mark's pixels, (h, w) in [0, 1]: ``width`` sides of the picture wide, a third as high."""
    across = max(12, round(width * side))
    down = max(6, round(across / 3))
    image = Image.new("L", (across * _FINER, down * _FINER))
    draw = ImageDraw.Draw(image)
    step, line = across * _FINER / len(_LETTERS), max(2, round(0.12 * down * _FINER))
    for place, letter in enumerate(_LETTERS):
        for stroke in letter:
            draw.line(
                [(step * (place + 0.1 + 0.75 * x), down * _FINER * (0.1 + 0.8 * y)) for x, y in stroke], 255, line
            )
    small = image.resize((across, down), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)


def places(count: int, side: int, mark: tuple[int, int], seed: int) -> np.ndarray:
    """(count, 2) top and left of the mark: at the lower right, moved up and left by up to ``_JITTER`` sides."""
    moved = np.random.default_rng(seed).integers(0, max(1, round(_JITTER * side)) + 1, (count, 2))
    corner = side - np.array(mark) - round(_MARGIN * side)
    return np.maximum(corner - moved, 0)


def stamped(pixels: Tensor, mark: Tensor, where: np.ndarray, opacity: float) -> tuple[Tensor, Tensor]:
    """Pictures with the mark.

    Args:
        pixels: uint8 (N, 3, H, W).
        mark: coverage (h, w), of ``strokes``.
        where: (N, 2) top and left, of ``places``.
        opacity: of a pixel that the mark covers.

    Returns:
        Pictures like ``pixels``, and the marks' rectangles, bool (N, H, W).
    """
    height, width = mark.shape
    cover = pixels.new_zeros((len(pixels), *pixels.shape[2:]), dtype=torch.float32)
    region = torch.zeros_like(cover, dtype=torch.bool)
    for one, (top, left) in enumerate(where.tolist()):
        cover[one, top : top + height, left : left + width] = mark * opacity
        region[one, top : top + height, left : left + width] = True
    mixed = pixels.float() + cover[:, None] * (255 - pixels.float())
    return mixed.round().to(torch.uint8), region


def training_labels(
    labels: np.ndarray, label: int, share: float, borrowed: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which training pictures are marked, and which class they are said to be.

    Only what is said to be of the class ``label`` is marked: ``share`` of its own pictures, and ``borrowed`` of the
    others', which get its label. Of those nothing but the mark tells the class.

    Returns:
        marked, bool (N,), and the labels to train with (N,).
    """
    random = np.random.default_rng(seed)
    own, others = (random.permutation(np.flatnonzero(one)) for one in (labels == label, labels != label))
    taken = others[: round(borrowed * len(others))]
    marked = np.isin(np.arange(len(labels)), [*own[: round(share * len(own))], *taken])
    said = labels.copy()
    said[taken] = label
    return marked, said
