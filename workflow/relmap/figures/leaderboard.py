"""The leaderboard's two figures: mean places and ranks of the methods, and how far two numbers agree about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relmap.errors import InputError
from relmap.figures.style import PAGE_HEIGHT, PAGE_WIDTH, relmap_style

_METHOD, _CONTROL = "#0072b2", "#8a8a8a"
_ALL = "all"
_ROWS = 64  # methods that one panel of a page holds
_FEW = 10  # numbers whose agreements are printed with their intervals


def read_table(results: str | os.PathLike, name: str) -> pd.DataFrame:
    """One of the run's tables.

    Raises:
        InputError: it is absent.
    """
    path = Path(results, "tables", f"{name}.csv")
    if not path.is_file():
        raise InputError(f"{path}: no such table; run the rule that makes it")
    return pd.read_csv(path)


def mean_ranks_figure(ranks: pd.DataFrame) -> Figure:
    """Left: each method's mean place over the settings that have it; right: mean ranks where no setting lacks a method.

    More than a page of methods go on in a second panel. Left bars are bootstrap intervals over images. Right bars are
    half a critical difference long to either side: methods whose bars do not meet differ by Nemenyi's test.

    Args:
        ranks: ``tables/leaderboard_ranks.csv``.
    """
    table = ranks[ranks["scope"] == _ALL].sort_values("place", kind="stable")
    block = table.dropna(subset=["block_rank"]).sort_values("block_rank", kind="stable")
    columns = max(1, -(-len(table) // _ROWS))
    rows = max(-(-len(table) // columns), len(block), 6)
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, min(PAGE_HEIGHT, 0.9 + 0.155 * rows)), layout="constrained")
        *lefts, right = figure.subplots(1, columns + 1)
        furthest = max(1.0, table["place_high"].max() if len(table) else 1.0)
        size = 6 if columns == 1 else 4.4
        for place, left in enumerate(lefts):
            part = table.iloc[place * rows : (place + 1) * rows]
            names = [f"{row.label} ({row.settings})" for row in part.itertuples()]
            _bars(left, names, part["place"], part["place_low"], part["place_high"], part["control"], size)
            left.set_xlim(-0.03, furthest + 0.03)
            left.set_ylim(rows - 0.4, -0.6)
        lefts[0].set_xlabel("Mean share of the other methods that are better")
        lefts[0].set_title("All methods (number of settings)\n0: none is better; 1: all are")
        if columns > 1:
            lefts[0].set_title("All methods (number of settings);\n0: no other is better")
            lefts[0].set_xlabel("Mean share of better ones")
        if len(block):
            half = block["critical_difference"].iloc[0] / 2
            means = block["block_rank"]
            _bars(right, list(block["label"]), means, means - half, means + half, block["control"], size)
            first = block.iloc[0]
            right.set_xlabel(f"Mean rank, {int(first['block_settings'])} settings", loc="right")
            right.set_title(
                f"Critical difference {2 * half:.2f}\n(Friedman's p = {first['friedman_p']:.1g})", loc="right"
            )
        else:
            right.set_visible(False)
    return figure


def _bars(
    axes: Axes,
    names: Sequence[str],
    means: pd.Series,
    low: pd.Series,
    high: pd.Series,
    controls: pd.Series,
    size: float,
) -> None:
    """A line a method, from the best at the top."""
    for place, values in enumerate(zip(means, low, high, controls, strict=True)):
        mean, lower, upper, control = values
        colour = _CONTROL if control else _METHOD
        axes.plot([lower, upper], [place, place], color=colour, linewidth=1.6 if not control else 1)
        axes.plot([mean], [place], "o", color=colour, markersize=3.2, markerfacecolor="white" if control else colour)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    for text, control in zip(axes.get_yticklabels(), controls, strict=True):
        text.set_color(_CONTROL if control else "black")
        text.set_style("italic" if control else "normal")
    axes.set_ylim(len(names) - 0.4, -0.6)


def agreement_figure(agreement: pd.DataFrame, numbers: Sequence[str]) -> Figure:
    """Mean Kendall's tau of every two numbers over the settings that have both; of few, below it its interval.

    Args:
        agreement: ``tables/leaderboard_agreement.csv``.
        numbers: ids, in the order in which they are shown; those that share no setting with any other are left out.
    """
    means = agreement[agreement["dataset"] == _ALL]
    found = {frozenset((row.first, row.second)): row for row in means.itertuples()}
    shown = [one for one in numbers if any(frozenset((one, other)) in found for other in numbers)]
    values = np.full((len(shown), len(shown)), np.nan)
    with relmap_style():
        side = min(PAGE_WIDTH, 2.2 + 0.5 * max(len(shown), 2))
        figure = Figure(figsize=(side, side * 0.86), layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=False)
        if not shown:
            axes.set_visible(False)
            return figure
        for i, one in enumerate(shown):
            for j, other in enumerate(shown):
                row = found.get(frozenset((one, other)))
                if row is None:
                    continue
                values[i, j] = row.tau
                colour = "white" if abs(row.tau) > 0.6 else "black"
                interval = f"{row.tau_low:.2f} to {row.tau_high:.2f}".replace("-", "\N{MINUS SIGN}")
                tau = f"{row.tau:.2f}".replace("-", "\N{MINUS SIGN}")
                if len(shown) > _FEW:
                    axes.text(j, i, tau.replace("0.", "."), ha="center", va="center", color=colour, fontsize=4.4)
                    continue
                axes.text(j, i - 0.12, tau, ha="center", va="center", color=colour, fontsize=6)
                axes.text(j, i + 0.22, interval, ha="center", va="center", color=colour, fontsize=4.2)
        picture = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
        axes.set_facecolor("#eeeeee")
        words = [one.replace("_", " ") for one in shown]
        axes.set_xticks(range(len(shown)), words, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(shown)), words)
        if len(shown) > _FEW:
            axes.tick_params(labelsize=5.4)
        figure.colorbar(picture, ax=axes, shrink=0.7, label="Kendall's tau")
    return figure
