"""Maps of two vision transformers of different numbers of patches beside each other (Figure 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from relmap.catalogue.rows import label
from relmap.errors import InputError
from relmap.figures.colours import EMPTY, is_signed
from relmap.figures.overlays import overlay
from relmap.figures.page import Page
from relmap.figures.style import PAGE_WIDTH

METHODS = ("abslrp", "hires_cam")
_LABEL = 0.9  # inches for the words at the left
_GAP = 0.25  # between the two transformers
_LARGEST = 1.4  # inches of a picture
_HEADER = 0.42
_FOOTER = 0.2
_NOTE = "Red: for the class; blue: against it. The more relevance, the more opaque."


@dataclass(frozen=True)
class Seen:
    """An image as one transformer sees it.

    Attributes:
        picture: uint8 (H, W, 3).
        maps: method -> (H, W) relevance of the class, signed; a method may be absent.
    """

    picture: np.ndarray
    maps: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """An image with the words at its left, as each transformer sees it, in the order of the titles."""

    words: str
    seen: Sequence[Seen]


def patch_title(name: str, side: int, patch: int) -> str:
    """A transformer's name with its number of patches: of 384 pixels in patches of 16, 576."""
    if patch < 1 or side % patch:
        raise InputError(f"figure: {side} pixels cannot be cut into patches of {patch}")
    return f"{name}, {(side // patch) ** 2} patches of {patch} x {patch}"


def patches_figure(examples: Sequence[Example], titles: Sequence[str], methods: Sequence[str] = METHODS) -> Figure:
    """A row an image; for each transformer, its input and its map by each method.

    Args:
        examples: rows, at least one.
        titles: of the transformers, as of ``patch_title``.
        methods: columns of each transformer.

    Raises:
        InputError: there are no examples, one does not have every transformer, or a map is not of its picture's size.
    """
    if not examples:
        raise InputError("figure: there are no examples of two transformers to show")
    for example in examples:
        if len(example.seen) != len(titles):
            raise InputError(f"figure: {example.words!r} is seen by {len(example.seen)} networks of {len(titles)}")
    columns = (1 + len(methods)) * len(titles)
    cell = min((PAGE_WIDTH - _LABEL - _GAP * (len(titles) - 1)) / columns, _LARGEST)
    page = Page(PAGE_WIDTH, _HEADER + len(examples) * cell + _FOOTER)
    side = cell - 0.04
    for number, title in enumerate(titles):
        left = _LABEL + number * ((1 + len(methods)) * cell + _GAP)
        page.text(title, left + (1 + len(methods)) * cell / 2, 0.12, fontsize=6)
        for place, name in enumerate(("Input", *map(label, methods))):
            page.text(name, left + place * cell + side / 2, _HEADER - 0.06, va="bottom", fontsize=5.8)
        for row, example in enumerate(examples):
            _draw(page, example.seen[number], methods, left, _HEADER + row * cell, cell)
    for row, example in enumerate(examples):
        page.text(example.words, _LABEL - 0.05, _HEADER + row * cell + side / 2, ha="right")
    page.text(_NOTE, 0.05, _HEADER + len(examples) * cell + _FOOTER / 2, ha="left")
    return page.figure()


def _draw(page: Page, seen: Seen, methods: Sequence[str], left: float, top: float, cell: float) -> None:
    side = cell - 0.04
    page.picture(seen.picture, left, top, side)
    for place, method in enumerate(methods, start=1):
        if method not in seen.maps:
            page.frame(left + place * cell, top, side, "no map")
            continue
        values = seen.maps[method]
        if values.shape != seen.picture.shape[:2]:
            raise InputError(
                f"figure: the map of {method} is {values.shape}, its picture {seen.picture.shape[:2]}; give it resized"
            )
        if values.any():
            page.picture(overlay(seen.picture, values, is_signed(method)), left + place * cell, top, side)
        else:
            page.frame(left + place * cell, top, side, EMPTY)
