"""The toy networks with their values, and what two methods attribute to the inputs (Figure 1)."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from relmap.errors import InputError
from relmap.figures.style import PAGE_WIDTH, relmap_style

_INPUTS, _HIDDEN, _OUTPUT = ((0.0, 1.0), (0.0, 0.0)), ((1.2, 1.0), (1.2, 0.0)), (2.4, 0.5)
_FIRST = (2.0, -1.0)  # weights of the first hidden neuron, the same in all networks
_STEP = 0.66  # between the columns of attributions
_RADIUS = 0.2
_YELLOW = "#F0E442"
# As the paper has them.
_NAMES = {
    "lrp_alpha1_beta0": "LRP-\N{GREEK SMALL LETTER ALPHA}1\N{GREEK SMALL LETTER BETA}0",
    "abslrp_target": "absLRP",
}


def toy_figure(table: pd.DataFrame) -> Figure:
    """A panel a network: values in white circles, weights at the lines, the inputs' relevance in yellow circles.

    Args:
        table: ``abslrp_toy``: network, a, b, method, input_1, input_2.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("figure: there are no toy networks; run the rule explain_toys")
    networks = list(table.groupby("network", sort=False))
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, 1.75))
        for place, (name, lines) in enumerate(networks):
            axes = figure.add_axes((place / len(networks), 0, 1 / len(networks), 1))
            _panel(axes, str(name), lines)
    return figure


def _panel(axes: Axes, name: str, lines: pd.DataFrame) -> None:
    first = lines.iloc[0]
    weights = (_FIRST, (first["a"], first["b"]))
    hidden = [max(sum(own), 0.0) for own in weights]  # both inputs are 1
    for (x, y), own in zip(_HIDDEN, weights, strict=True):
        for (left, height), weight in zip(_INPUTS, own, strict=True):
            _edge(axes, (left, height), (x, y), weight, 0.32)
        _edge(axes, (x, y), _OUTPUT, 1, 0.5)
    for at, value in zip((*_INPUTS, *_HIDDEN, _OUTPUT), (1, 1, *hidden, sum(hidden)), strict=True):
        _neuron(axes, at, f"{value:g}", "white")
    for column, line in enumerate(lines.itertuples()):
        left = -_STEP * (column + 1)
        for (_, height), share in zip(_INPUTS, (line.input_1, line.input_2), strict=True):
            _neuron(axes, (left, height), f"{share:.2f}".rstrip("0").rstrip("."), _YELLOW)
        axes.text(left, -0.34, _NAMES.get(line.method, line.method), ha="center", va="top", fontsize=5.2)
    axes.set_title(name, y=0.9)
    axes.set(xlim=(-_STEP * (len(lines) + 0.6), 2.75), ylim=(-0.75, 1.6), aspect="equal")
    axes.set_axis_off()


def _neuron(axes: Axes, at: tuple[float, float], text: str, colour: str) -> None:
    axes.add_patch(Circle(at, _RADIUS, fc=colour, ec="black", lw=0.7, zorder=2))
    axes.text(*at, text, ha="center", va="center", fontsize=6, zorder=3)


def _edge(axes: Axes, start: tuple[float, float], end: tuple[float, float], weight: float, place: float) -> None:
    """A line with its weight, at a share of the way, where no other line is."""
    axes.plot(*zip(start, end, strict=True), color="#888888", lw=0.7, zorder=1)
    x, y = (a + place * (b - a) for a, b in zip(start, end, strict=True))
    plate = {"boxstyle": "square,pad=0.08", "fc": "white", "ec": "none"}
    text = f"{weight:g}".replace("-", "\N{MINUS SIGN}")
    axes.text(x, y, text, ha="center", va="center", fontsize=5.5, zorder=1.5, bbox=plate)
