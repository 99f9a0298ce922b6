"""Sentences whose words are coloured by relevance (Figure 9), and how much of it lies on the words that tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from relmap.catalogue.rows import label
from relmap.errors import InputError
from relmap.figures.colours import SIGNED
from relmap.figures.page import Page
from relmap.figures.style import PAGE_WIDTH, relmap_style

SHOWN = ("abslrp_difference", "abslrp", "input_x_gradient", "attention_rollout")
"""Methods whose maps of the first sentence stand below each other; the others are shown by the first alone.

With two classes one pass from 1 and -1/2 is near the target's own map, which tells no sides; the difference of two
passes, the default of the authors' code for transformers, does.
"""

_FONT = 6.4  # points
# A letter of the fixed-width face that comes with matplotlib is so many points wide for each point of its size.
_LETTER = 0.602 * _FONT / 72
_LINE = 0.19
_LEFT = 1.0
_PLOT = 2.0
_SCORES = {"mass": "#0072B2", "rank": "#E69F00", "against": "#999999"}
NOTE = (
    "Red: for positive sentiment; blue: against it. Colour: relevance over its largest magnitude in the sentence. "
    "Underlined: words that carry the sentiment."
)


@dataclass(frozen=True)
class _Line:
    """Words that fit beside each other, with colours' levels in [-1, 1], and words at their left and above."""

    name: str
    words: Sequence[str]
    levels: np.ndarray
    telling: Sequence[bool]
    title: str = ""


def levels(values: np.ndarray) -> np.ndarray:
    """Relevance over its largest magnitude; zeros stay zeros."""
    largest = np.abs(values).max(initial=0)
    return values / largest if largest > 0 else np.zeros_like(values, dtype=float)


def method_label(method: str) -> str:
    """As readers know it."""
    return "attention rollout" if method == "attention_rollout" else label(method)


def title_of(positive: float, true: int) -> str:
    """The prediction and its probability, and the truth where it is known (1 positive, 0 negative, else unknown)."""
    names = ("negative", "positive")
    said = names[positive >= 0.5]
    truth = f"; truth: {names[true]}" if true in (0, 1) else ""
    return f"prediction: {said}, {max(positive, 1 - positive):.3f}{truth}"


def sentences_figure(arrays: Mapping[str, np.ndarray], table: pd.DataFrame) -> Figure:
    """All sentences by absLRP's difference of two passes, the first by other methods too, and the methods' scores.

    Args:
        arrays: of ``explain_sentences``: words (N, W), label (N,), positive (N,), telling (N, W), maps/<method> (N, W).
        table: lines of ``abslrp_sentiment``.

    Raises:
        InputError: there is no sentence.
    """
    if not len(arrays["words"]):
        raise InputError("figure: there are no sentences to show")
    lines: list[_Line] = []
    for place in range(len(arrays["words"])):
        methods = [method for method in SHOWN if f"maps/{method}" in arrays] if place == 0 else list(SHOWN[:1])
        title = title_of(float(arrays["positive"][place]), int(arrays["label"][place]))
        for number, method in enumerate(methods):
            lines += _wrapped(arrays, place, method, title if number == 0 else "")
    height = sum(_LINE * (2 if line.title else 1) for line in lines) + 0.4 + _PLOT
    page, top = Page(PAGE_WIDTH, height), 0.1
    for line in lines:
        top = _draw(page, line, top)
    page.text(NOTE, 0.05, top + 0.15, ha="left")
    figure = page.figure()
    with relmap_style():
        axes = figure.add_axes((0.09, 0.62 / height, 0.88, (_PLOT - 0.85) / height))
        _scores(axes, table)
    return figure


def _wrapped(arrays: Mapping[str, np.ndarray], place: int, method: str, title: str) -> list[_Line]:
    words = [str(word) for word in arrays["words"][place] if word]
    shades = levels(arrays[f"maps/{method}"][place][: len(words)].astype(float))
    told = arrays["telling"][place][: len(words)]
    room = int((PAGE_WIDTH - _LEFT - 0.1) / _LETTER)
    found, begin, used = [], 0, 0
    for number, word in enumerate(words):
        if used + len(word) > room and len(word) > 1:  # a full stop stays with its sentence
            found.append((begin, number))
            begin, used = number, 0
        used += len(word) + 1
    found.append((begin, len(words)))
    return [
        _Line(
            method_label(method) if first == 0 else "",
            words[first:last],
            shades[first:last],
            told[first:last],
            title if first == 0 else "",
        )
        for first, last in found
    ]


def _draw(page: Page, line: _Line, top: float) -> float:
    if line.title:
        page.text(line.title, _LEFT, top + 0.6 * _LINE, ha="left", fontsize=5.6, color="#555555")
        top += _LINE
    base, left = top + 0.65 * _LINE, _LEFT
    page.text(line.name, _LEFT - 0.08, base, ha="right", va="baseline", fontsize=5.6)
    for word, level, told in zip(line.words, line.levels, line.telling, strict=True):
        # Half of the colours' range, so that black words stay legible.
        colour = SIGNED(0.5 + 0.3 * float(level))
        box = {"boxstyle": "square,pad=0.12", "fc": colour, "ec": "none"}
        style = {"family": "DejaVu Sans Mono", "fontsize": _FONT, "ha": "left", "va": "baseline"}
        page.text(word, left, base, bbox=box, **style)
        if told:
            page.text("_" * len(word), left, base, **style)
        left += (len(word) + 1) * _LETTER
    return top + _LINE


def _scores(axes: Axes, table: pd.DataFrame) -> None:
    """Bars: shares with their intervals, and the words' share of all words."""
    width = 0.8 / len(_SCORES)
    places = np.arange(len(table))
    for number, (score, colour) in enumerate(_SCORES.items()):
        low, high = (table[score] - table[f"{score}_low"], table[f"{score}_high"] - table[score])
        axes.bar(
            places + (number - 1) * width,
            table[score],
            width,
            yerr=np.clip([low, high], 0, None),
            color=colour,
            error_kw={"lw": 0.6, "capsize": 1.2},
            label={"mass": "mass on words for the class", "rank": "rank", "against": "mass on words against it"}[score],
        )
    first = table.iloc[0]
    axes.axhline(first["area"], color="black", lw=0.7, ls="--", label="their share of all words")
    axes.set_xticks(places, [method_label(method).replace(" ", "\n") for method in table["method"]], fontsize=5.5)
    axes.set_ylim(0, 1.18)
    axes.set_yticks(np.linspace(0, 1, 6))
    right = f"{first['accuracy']:.1%} of {int(first['n_tested'])} held-out sentences"
    axes.set_title(f"Means over {int(first['n_sentences'])} sentences; the classifier is right on {right}")
    axes.legend(ncols=4, fontsize=5.2, loc="upper right")
