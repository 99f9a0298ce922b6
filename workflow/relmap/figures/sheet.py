"""Sheets of pictures and maps: a row an example, a column a method, words under each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from relmap.errors import InputError
from relmap.figures.page import Page
from relmap.figures.style import PAGE_WIDTH

GAIN = 3.0  # the display of Attribution Equilibrium's authors: maps over their largest magnitude, times 3, cut at 1
NOTE = f"Red: for the class; blue: against it. Colour: relevance over its largest magnitude, times {GAIN:g}."


@dataclass(frozen=True)
class SheetRow:
    """A row: words at its left, and in each column a picture, uint8 (H, W, 3), or None, with words under it."""

    label: str
    cells: Sequence[np.ndarray | None]
    words: Sequence[str] = ()


def seismic(values: np.ndarray, gain: float = GAIN) -> np.ndarray:
    """A signed map (H, W) in seismic colours, white at 0: uint8 (H, W, 3). Magnitudes of 1 / ``gain`` are full."""
    values = np.asarray(values, dtype=float)
    largest = np.abs(values).max(initial=0)
    level = np.clip(gain * values / largest, -1, 1) if largest > 0 else np.zeros_like(values)
    return (255 * colormaps["seismic"](0.5 + 0.5 * level)[..., :3]).round().astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """A map of values that are not negative, dark where large: uint8 (H, W, 3)."""
    values = np.asarray(values, dtype=float)
    largest = values.max(initial=0)
    level = values / largest if largest > 0 else np.zeros_like(values)
    return (255 * colormaps["Greys"](level)[..., :3]).round().astype(np.uint8)


def squared(picture: np.ndarray) -> np.ndarray:
    """A picture in the middle of the smallest white square that holds it."""
    height, width = picture.shape[:2]
    side = max(height, width)
    canvas = np.full((side, side, 3), 255, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """A small map's picture, its pixels as squares, at least ``side`` pixels wide."""
    factor = max(1, -(-side // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


NOTHING = np.empty((0, 0, 3), dtype=np.uint8)
"""A cell that stays white, such as an input that the row above shows already."""


class Sheet:
    """Rows of square cells over a page's width, with titles above and a note below.

    Args:
        rows: at least one.
        titles: of the columns.
        note: lines below.
        label_width: inches for the rows' words.
        largest: most inches of a cell.
        photographs: columns whose pictures are smooth where they are enlarged; the others' pixels stay squares.

    Raises:
        InputError: there are no rows.
    """

    def __init__(
        self,
        rows: Sequence[SheetRow],
        titles: Sequence[str],
        note: str = NOTE,
        *,
        label_width: float = 0.8,
        largest: float = 1.1,
        photographs: Collection[int] = (0,),
    ) -> None:
        if not rows:
            raise InputError("figure: there are no examples to show; are there maps and targets of any?")
        self.rows, self.titles, self.note, self.label_width = rows, titles, note, label_width
        self.photographs = photographs
        self.cell = min((PAGE_WIDTH - label_width) / len(titles), largest)
        self.side = self.cell - 0.04
        self.header = 0.1 + 0.1 * max(title.count("\n") + 1 for title in titles)
        lines = [max((words.count("\n") + 1 for words in row.words if words), default=0) for row in rows]
        self.pitches = [self.cell + 0.095 * count for count in lines]
        self.footer = 0.12 + 0.1 * (note.count("\n") + 1)
        self.height = self.header + sum(self.pitches) + self.footer

    def draw(self, page: Page, top: float) -> None:
        """Onto a page, so many inches from its top."""
        for column, title in enumerate(self.titles):
            left = self.label_width + column * self.cell + self.side / 2
            page.text(title, left, top + self.header - 0.04, va="bottom", fontsize=5.8, linespacing=1)
        place = top + self.header
        for row, pitch in zip(self.rows, self.pitches, strict=True):
            self._row(page, row, place)
            place += pitch
        page.text(self.note, 0.05, place + self.footer / 2, ha="left")

    def _row(self, page: Page, row: SheetRow, top: float) -> None:
        page.text(row.label, self.label_width - 0.05, top + self.side / 2, ha="right", fontsize=5)
        words = [*row.words, *[""] * (len(row.cells) - len(row.words))]
        for column, (picture, under) in enumerate(zip(row.cells, words, strict=True)):
            left = self.label_width + column * self.cell
            if picture is None:
                page.frame(left, top, self.side, "no map")
            elif picture.size:
                page.picture(squared(picture), left, top, self.side, smooth=column in self.photographs)
                page.outline(left, top, self.side)
            if under:
                page.text(under, left + self.side / 2, top + self.side + 0.015, va="top", fontsize=4.8)


def page_of(*sheets: Sheet, extra: float = 0.0) -> tuple[Figure, float]:
    """Sheets one below the other, and ``extra`` inches below them for axes of one's own; and the height in inches."""
    height = sum(sheet.height for sheet in sheets) + extra
    page, top = Page(PAGE_WIDTH, height), 0.0
    for sheet in sheets:
        sheet.draw(page, top)
        top += sheet.height
    return page.figure(), height
