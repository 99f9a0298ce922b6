"""One image under every method: a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure

from relmap.catalogue.methods import find
from relmap.catalogue.rows import rank
from relmap.errors import InputError
from relmap.figures.colours import EMPTY, SIGNED, UNSIGNED, as_pixels, tint
from relmap.figures.overlays import CLIP_PERCENTILE, scaled
from relmap.figures.page import Page
from relmap.figures.style import PAGE_WIDTH

# Both are told apart with a colour vision deficiency, and what is pale is zero in both.
TITLE = 5.6  # points
_LINE = 0.094  # inches, of a title
_GAP, _MARGIN = 0.045, 0.04


@dataclass(frozen=True)
class Comparison:
    """One image's maps.

    Attributes:
        image_id: of the image.
        target: the class that is explained.
        maps: method id -> (H, W) float32.
    """

    image_id: str
    target: int
    maps: Mapping[str, np.ndarray]


def read_comparisons(results: str | os.PathLike) -> dict[tuple[str, str], Comparison]:
    """What ``compare_methods`` wrote, by data set and model, in the tables' order.

    Raises:
        InputError: there is nothing.
    """
    found = {}
    paths = Path(results).glob("comparisons/*/*.npz")
    for path in sorted(paths, key=lambda path: rank(path.parent.name, path.stem)):
        with np.load(path) as stored:
            maps = dict(zip(stored["methods"].tolist(), stored["maps"], strict=True))
            found[path.parent.name, path.stem] = Comparison(str(stored["image_id"]), int(stored["target"]), maps)
    if not found:
        raise InputError(f"{results}/comparisons: no maps to show; run the rule compare_methods first")
    return found


def coloured(values: np.ndarray, signed: bool) -> np.ndarray:
    """A map in colours: divided by the 99.5th percentile of its magnitude and clipped.

    Args:
        values: (H, W).
        signed: blue to red, pale at zero, symmetric; otherwise white to purple, and what is negative is white.

    Returns:
        uint8 (H, W, 3).
    """
    level = scaled(values)
    return as_pixels(tint(level, signed))


def fullest(cells: int, choices: Sequence[int] = (7, 8, 6)) -> int:
    """How many columns leave the last row least empty, in share; the first of equals."""
    return max(choices, key=lambda columns: ((cells - 1) % columns + 1) / columns)


def gallery_figure(picture: np.ndarray, title: str, maps: Mapping[str, np.ndarray]) -> Figure:
    """Draw the picture and then its map by every method, row by row in the catalogue's order.

    Args:
        picture: uint8 (H, W, 3), as the network saw it.
        title: above the picture.
        maps: method id -> (H, W), signed, not normalised; at least one.

    Returns:
        A figure of a page's width.

    Raises:
        InputError: there is no map.
    """
    if not maps:
        raise InputError("gallery: no maps to show; name methods that the network admits in `engine.methods`")
    columns = fullest(len(maps) + 1)
    cell = (PAGE_WIDTH - 2 * _MARGIN + _GAP) / columns
    side = cell - _GAP
    letters = int(side / (TITLE / 72 * 0.56))
    titles = [wrap(text, letters) for text in (title, *(find(method).label for method in maps))]
    rows = [titles[begin : begin + columns] for begin in range(0, len(titles), columns)]
    # A row has room for the longest of its titles, which stand on its pictures.
    heads = [_LINE * max(map(len, row)) + 0.05 for row in rows]
    page = Page(PAGE_WIDTH, sum(heads) + len(rows) * (side + 0.02) + 0.36)
    pictures = iter([picture, *(coloured(values, find(method).signed) for method, values in maps.items())])
    top = 0.0
    for head, row in zip(heads, rows, strict=True):
        top += head
        for column, lines in enumerate(row):
            left = _MARGIN + column * cell
            page.text("\n".join(lines), left + side / 2, top - 0.03, va="bottom", fontsize=TITLE, linespacing=1.05)
            image = next(pictures)
            page.picture(image, left, top, side, smooth=image is picture)
            page.outline(left, top, side)
            if (image == 255).all():
                page.text(EMPTY, left + side / 2, top + side / 2, color="#777777", fontsize=TITLE)
        top += side + 0.02
    page.colour_bar(0.45, top + 0.1, 1.8, ["against the class", "0", "for the class"], SIGNED)
    page.colour_bar(2.85, top + 0.1, 0.9, ["0", "large"], UNSIGNED, lowest=0)
    page.text(
        f"Colour: map / {CLIP_PERCENTILE:g}th percentile of its magnitude; blue to red for\n"
        "signed maps, white to purple for methods that tell sizes only.",
        PAGE_WIDTH - _MARGIN,
        top + 0.17,
        ha="right",
    )
    return page.figure()
