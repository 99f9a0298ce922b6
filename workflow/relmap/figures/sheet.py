"""Sheets of pictures and maps: a row an example, a column a method, words under each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from relmap.errors import InputError
from relmap.figures.colours import EMPTY, as_pixels, is_signed, tint
from relmap.figures.page import Page
from relmap.figures.style import PAGE_WIDTH

GAIN = 3.0  # the display of Attribution Equilibrium's authors: maps over their largest magnitude, times 3, cut at 1
NOTE = (
    f"Red: for the class; blue: against it; over its largest magnitude, times {GAIN:g}. Purple: what tells sizes only."
)


@dataclass(frozen=True)
class SheetRow:
    """A row: words at its left; in each column a picture, uint8 (H, W, 3), None without a map, or what a frame says."""

    label: str
    cells: Sequence[np.ndarray | str | None]
    words: Sequence[str] = ()


def shown_map(values: np.ndarray, signed: bool = True, gain: float = GAIN) -> np.ndarray | str:
    """A map (H, W) in colours, white at 0: uint8 (H, W, 3); words for one that is 0 everywhere.

    Args:
        values: of two signs, or of one.
        signed: of two signs magnitudes of 1 / ``gain`` of the largest are full; of one sign the largest alone is, for
            activation maps fill the scale as they are.
        gain: the factor.
    """
    values = np.asarray(values, dtype=float)
    largest = np.abs(values).max(initial=0)
    if not largest > 0:
        return EMPTY
    return as_pixels(tint(np.clip((gain if signed else 1) * values / largest, -1, 1), signed))


def method_map(method: str, values: np.ndarray) -> np.ndarray | str:
    """A method's map in the colours of its kind."""
    return shown_map(values, is_signed(method))


def mask(values: np.ndarray) -> np.ndarray:
    """Chosen places, or how often each was, dark where often: uint8 (H, W, 3)."""
    values = np.asarray(values, dtype=float)
    largest = values.max(initial=0)
    return as_pixels(colormaps["Greys"](values / largest if largest > 0 else np.zeros_like(values))[..., :3])


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
            if picture is None or isinstance(picture, str):
                page.frame(left, top, self.side, picture or "no map")
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
