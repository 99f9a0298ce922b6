"""Deletion and insertion against the enlargement, without and with UCAG, and what a map costs (Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.evidence.statistics import area_under, bootstrap_mean
from relmap.figures.style import PAGE_WIDTH, relmap_style

from papers.ucag.figures.names import GRAD_CAM, UCAG_GRAD_CAM

TIMES = {1: "once", 2: "twice", 3: "thrice", 4: "fourfold", 5: "fivefold"}
PLAIN = {factor: GRAD_CAM if factor == 1 else f"{GRAD_CAM}_{word}" for factor, word in TIMES.items()}
GUIDED = {factor: f"{UCAG_GRAD_CAM}_{word}" for factor, word in TIMES.items()}
SERIES = {"Grad-CAM, enlarged": PLAIN, "UCAG": GUIDED}
GAMES = {"deletion_probability": "Deletion, lower is better", "insertion_probability": "Insertion, higher is better"}
COSTS = {"map_operations": "Multiply-accumulates of a map, billions", "map_memory": "Live memory of a map, MiB"}
_COLOURS = {"Grad-CAM, enlarged": "#0072B2", "UCAG": "#D55E00"}


def areas(scores: pd.DataFrame) -> pd.DataFrame:
    """The area under each pair's curve: image_id, target, method, metric, value.

    Args:
        scores: rows of a game, with levels from 0 to 1.
    """
    keys = ["image_id", "target", "method", "metric"]
    table = scores.set_index([*keys, "level"])["value"].unstack("level")
    if table.isna().to_numpy().any():
        raise InputError("game scores: a pair has not all levels; delete the file of scores and rerun")
    found = area_under(table.to_numpy(float), table.columns.to_numpy(float))
    return pd.Series(found, table.index, name="value").reset_index()


def by_enlargement(values: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Mean of each series, metric and enlargement with its 95 % interval over images.

    Args:
        values: image_id, method, metric, value, one row a pair.
        draws, seed: of the bootstrap.

    Returns:
        series, enlargement, metric, mean, low, high, images.
    """
    found = []
    for series, methods in SERIES.items():
        for factor, method in methods.items():
            for metric, part in values[values["method"] == method].groupby("metric", sort=False):
                interval = bootstrap_mean(
                    part["value"].to_numpy(float), resamples=draws, seed=seed, images=part["image_id"].to_numpy()
                )
                row = {"series": series, "enlargement": factor, "metric": metric, "mean": interval.mean}
                found.append({**row, "low": interval.low, "high": interval.high, "images": interval.n})
    if not found:
        raise InputError("game scores: none of Grad-CAM at several enlargements; run the rule that scores them")
    return pd.DataFrame(found)


def resolution_figure(games: pd.DataFrame, costs: pd.DataFrame, side: int) -> Figure:
    """Four panels: the two games, operations and memory, against the side of the enlarged input.

    Args:
        games, costs: of ``by_enlargement``.
        side: of the network's input in pixels.
    """
    panels: Mapping[str, tuple[str, pd.DataFrame]] = {
        **{metric: (title, games) for metric, title in GAMES.items()},
        **{metric: (title, costs) for metric, title in COSTS.items()},
    }
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.1), layout="constrained")
        for axes, (metric, (title, frame)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            for series in SERIES:
                rows = frame[(frame["metric"] == metric) & (frame["series"] == series)].sort_values("enlargement")
                x, colour = side * rows["enlargement"].to_numpy(float), _COLOURS[series]
                if series == "UCAG":
                    axes.plot(x, rows["mean"], color=colour, label=series)
                    axes.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
                else:
                    error = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["mean"].to_numpy(float))
                    axes.errorbar(x, rows["mean"], yerr=error, color=colour, fmt="o", ms=3, capsize=2, label=series)
            axes.set_title(title.replace(", ", ",\n", 1), fontsize=6.5)
            axes.set_xlabel("side of the enlarged input, px")
            if metric in COSTS:
                axes.set_yscale("log")
        axes = figure.axes[0]
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
