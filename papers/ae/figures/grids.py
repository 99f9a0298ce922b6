"""GridPG (Figure 9): maps of grids by the rank of AE's score, and the scores of all methods, also at AE's ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.figures.sheet import NOTE, Sheet, SheetRow, method_map, page_of
from relmap.figures.style import relmap_style

from papers.ae.figures.names import AE, look, method_name

# Upper ends of the bins in percent of the ranks, best first (Rao et al. 2022); as in relmap.metrics.grid_pointing.
ENDS = (2, 5, 50, 95, 98, 100)
_PLOT = 2.2


def bin_examples(scores: pd.DataFrame, method: str = AE) -> pd.DataFrame:
    """The pair in the middle of each bin of ranks by a method's score.

    Args:
        scores: image_id, target, method, kept, value.
        method: whose full maps are ranked; of equal scores the first ranks higher.

    Returns:
        bin (in words), image_id, target, value; bins without pairs are left out.

    Raises:
        InputError: the method has no scores.
    """
    own = scores[(scores["method"] == method) & (scores["kept"] == "full")].dropna(subset="value")
    if own.empty:
        raise InputError(f"grid scores: no rows of {method}; run the rule that scores it")
    ranked = own.sort_values("value", ascending=False, kind="stable").reset_index(drop=True)
    edges = [0, *(len(ranked) * end // 100 for end in ENDS)]
    starts = (0, *ENDS[:-1])
    found = [
        {"bin": f"{start}\N{EN DASH}{end} %", **ranked.iloc[(low + high - 1) // 2][["image_id", "target", "value"]]}
        for start, end, low, high in zip(starts, ENDS, edges, edges[1:], strict=False)
        if high > low
    ]
    return pd.DataFrame(found)


def figure09(
    chosen: pd.DataFrame,
    pictures: Sequence[np.ndarray],
    maps: Sequence[Mapping[str, np.ndarray]],
    scores: pd.DataFrame,
    methods: Sequence[str],
) -> Figure:
    """Grids and maps by bins, a row a method, and below them a box plot.

    Args:
        chosen: of ``bin_examples``, a column each.
        pictures: the grid of each.
        maps: of each, by method.
        scores: image_id, target, method, kept (``full``, ``thresholded``), value.
        methods: rows, AE first.
    """
    known = scores[scores["kept"] == "full"].set_index(["image_id", "target", "method"])["value"]
    rows = [SheetRow("grid", list(pictures))]
    for method in methods:
        words = [f"{known[pair.image_id, pair.target, method]:.2f}" for pair in chosen.itertuples()]
        rows.append(
            SheetRow(
                method_name(method),
                [method_map(method, found[method]) for found in maps],
                words,
            )
        )
    note = (
        "Columns: bins of ranks by AE's score, the middle pair of each. Under maps: share of positive relevance in the "
        f"target's cell.\n{NOTE}"
    )
    figure, height = page_of(Sheet(rows, list(chosen["bin"]), note), extra=_PLOT)
    with relmap_style():
        axes = figure.add_axes((0.09, 0.42 / height, 0.88, (_PLOT - 0.62) / height))
        _boxes(axes, scores, methods)
    return figure


def _boxes(axes: Axes, scores: pd.DataFrame, methods: Sequence[str]) -> None:
    names, values, colours = [], [], []
    for method in methods:
        for kept in ("full", "thresholded"):
            own = scores[(scores["method"] == method) & (scores["kept"] == kept)]["value"].dropna()
            if len(own):
                names.append(
                    method_name(method).replace(" ", "\n")
                    if kept == "full"
                    else f"({method_name(method)})".replace(" ", "\n")
                )
                values.append(own.to_numpy(float))
                colours.append(look(method, tuple(methods))["color"])
    boxes = axes.boxplot(
        values, tick_labels=names, patch_artist=True, widths=0.55, flierprops={"ms": 2}, medianprops={"color": "black"}
    )
    for box, colour in zip(boxes["boxes"], colours, strict=True):
        box.set(facecolor=colour, alpha=0.6)
    axes.set_ylabel("localisation")
    axes.set_ylim(-0.02, 1.02)
    axes.set_title("In brackets: as many top pixels as AE's map has positive ones")
    axes.tick_params(axis="x", labelsize=5.5)
