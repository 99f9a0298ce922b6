"""An explanation as a contact sheet: a row an image and class, a column a method, with what there is to say of each."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from relmap.errors import InputError
from relmap.figures.colours import EMPTY, SIGNED, UNSIGNED
from relmap.figures.gallery import coloured
from relmap.figures.page import Page
from relmap.figures.sheet import squared
from relmap.figures.style import as_picture
from relmap.inspection.explanations import Explanation, MethodMaps

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 16
"""Rows of one sheet; more of them make a picture that viewers refuse."""
SURE = 3
"""Predicted classes beside a picture."""
_LEFT, _CELL, _GAP, _MARGIN = 1.2, 1.06, 0.04, 0.06  # inches
_FIXED = "\N{NO-BREAK SPACE}"
_LEAST = 7.0  # inches of width that the words below need
_TEXT, _SMALL = 6.0, 5.2  # points
_LINE, _SMALL_LINE = 0.1, 0.088  # inches


def show(
    explanation: Explanation | Tensor | Mapping[str, Tensor], images: Tensor | None = None, first: int = 0
) -> Image.Image:
    """An explanation as a picture, which a notebook shows; ``.save("sheet.png")`` writes it.

    Args:
        explanation: or maps of ``relmap.explain`` or ``relmap.compare``, with the ``images`` that they are of.
        images: (N, C, H, W), as they were given to ``explain``; not with an explanation.
        first: the row to begin with; a sheet has at most 16.

    Raises:
        InputError: there are maps without images, or no row.
    """
    if not isinstance(explanation, Explanation):
        explanation = _of_maps(explanation, images)
    return as_picture(contact_sheet(explanation, first))


def rows_of(explanation: Explanation) -> list[tuple[int, int]]:
    """Image and place of the target, of every row."""
    return [(image, place) for image in range(len(explanation.images)) for place in range(explanation.targets.shape[1])]


def contact_sheet(explanation: Explanation, first: int = 0, count: int = ROWS) -> Figure:
    """Draw some rows.

    Raises:
        InputError: there is none from ``first`` on.
    """
    rows = rows_of(explanation)[first : first + count]
    if not rows:
        raise InputError(f"contact sheet: there is no row {first}; there are {len(rows_of(explanation))}")
    methods = [explanation.methods[name] for name in explanation.maps]
    width = max(_LEAST, _LEFT + _CELL * (1 + len(methods)) + _MARGIN)
    heads = [_head(method) for method in methods]
    head = 0.06 + max(_LINE * len(lines) for lines in [[""], *heads])
    leaks = any(method.leak is not None for method in methods)
    pitch = _CELL + (_SMALL_LINE + 0.03 if leaks else 0)
    notes = _notes(explanation, int((width - 2 * _MARGIN) / (_SMALL / 72 * 0.56)))
    page = Page(width, head + pitch * len(rows) + 0.3 + _SMALL_LINE * len(notes) + _MARGIN)
    for column, lines in enumerate(heads, start=1):
        left = _LEFT + column * _CELL + (_CELL - _GAP) / 2
        page.text("\n".join(lines), left, head - 0.03, va="bottom", fontsize=_TEXT, linespacing=1.1)
    for place, (image, target) in enumerate(rows):
        _row(page, explanation, image, target, head + place * pitch)
    below = head + pitch * len(rows) + 0.06
    page.colour_bar(0.55, below, 1.6, ["against the class", "0", "for the class"], SIGNED)
    page.colour_bar(3.0, below, 0.9, ["0", "large"], UNSIGNED, lowest=0)
    for place, line in enumerate(notes):
        page.text(line, _MARGIN, below + 0.26 + place * _SMALL_LINE, ha="left", fontsize=_SMALL)
    return page.figure()


def _head(method: MethodMaps) -> list[str]:
    """A method's name, and what it took."""
    letters = int((_CELL - _GAP) / (_TEXT / 72 * 0.56))
    return [*wrap(method.label, letters), *([_seconds(method.seconds)] if method.seconds == method.seconds else [])]


def _row(page: Page, explanation: Explanation, image: int, target: int, top: float) -> None:
    side = _CELL - _GAP
    page.text(_words(explanation, image, target), _MARGIN, top + side / 2, ha="left", fontsize=_SMALL, linespacing=1.3)
    page.picture(squared(explanation.pictures[image]), _LEFT, top, side)
    page.outline(_LEFT, top, side)
    for column, (name, maps) in enumerate(explanation.maps.items(), start=1):
        left, method, values = _LEFT + column * _CELL, explanation.methods[name], maps[image, target]
        if not np.isfinite(values).all():
            page.frame(left, top, side, "not finite")
            continue
        page.picture(squared(coloured(values, method.signed)), left, top, side)
        page.outline(left, top, side)
        if not values.any():
            page.text(EMPTY, left + side / 2, top + side / 2, color="#777777")
        if method.leak is not None:
            page.text(
                f"leak {shown_leak(method.leak[image, target])}", left + side / 2, top + side + 0.05, fontsize=_SMALL
            )


def _words(explanation: Explanation, image: int, target: int) -> str:
    """What the image is called, which class is explained, and what the network predicts."""
    letters = int((_LEFT - 2 * _MARGIN) / (_SMALL / 72 * 0.58))
    number = int(explanation.targets[image, target])
    share = explanation.target_probabilities[image, target]
    explained = f"explained: {explanation.class_name(number)}"
    lines = [_shortened(explanation.images[image], letters), ""]
    told = f"{explained}, {shown_share(share).replace(' ', _FIXED)}" if np.isfinite(share) else explained
    lines += [line.replace(_FIXED, " ") for line in wrap(told, letters)]
    sure = zip(explanation.predicted[image, :SURE], explanation.probabilities[image, :SURE], strict=True)
    predicted = [f"{shown_share(p)} {explanation.class_name(int(each))}" for each, p in sure]
    if predicted:
        lines += ["", "predicted:", *(_shortened(each, letters) for each in predicted)]
    return "\n".join(lines)


def _shortened(text: str, letters: int) -> str:
    """A text whose middle is left out where it is too long: the ends tell files and classes apart."""
    if len(text) <= letters:
        return text
    return f"{text[: letters - letters // 2 - 1]}…{text[-(letters // 2) :]}"


def shown_share(share: float) -> str:
    """A probability in per cent."""
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _notes(explanation: Explanation, letters: int) -> list[str]:
    methods = explanation.methods.values()
    words = [f"{explanation.model}" + (f", weights {explanation.weights}" if explanation.weights else "")]
    words[0] += (
        f", on {explanation.device}. Colour: map over the 99.5th percentile of its magnitude. Seconds: of all "
        f"{len(explanation.images)} images, forward pass included."
    )
    if any(method.leak is not None for method in methods):
        words.append(
            "Leak: by how much of the start's absolute sum the map's total differs; 0 where relevance is conserved."
        )
    for method in methods:
        words += [f"{method.label}{': no map' if method.maps is None else ''}: {line}" for line in method.said]
    return [line for text in words for line in wrap(text, letters, subsequent_indent="    ")]


def shown_leak(leak: float) -> str:
    """A leak in few digits."""
    if leak >= 1e3:
        return "explodes"
    return "0" if leak < 5e-4 else f"{leak:.3f}" if leak < 0.1 else f"{leak:.2g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def _of_maps(maps: Tensor | Mapping[str, Tensor], images: Tensor | None) -> Explanation:
    """Maps that came without their story, as an explanation without one.

    Raises:
        InputError: there are no images, or they are of other shapes.
    """
    from relmap.inspection.explaining import told_of_maps

    if images is None:
        raise InputError("show: give the images too, relmap.show(maps, images), or a relmap.Explanation")
    return told_of_maps(maps if isinstance(maps, Mapping) else {"map": maps}, images)
