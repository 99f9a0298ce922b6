"""How the classifiers learned: accuracy by epoch, a panel a data set and model; trainings of one model share theirs."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from relmap.catalogue.models import MODELS
from relmap.figures.style import PAGE_WIDTH, relmap_style, setting_name

_LINES = {"train": ("#0072b2", "-", "training"), "validation": ("#d55e00", "--", "held out")}


def read_histories(results: str | os.PathLike) -> dict[tuple[str, str], pd.DataFrame]:
    """(dataset, model) -> epochs of its training; networks that were not trained here are left out."""
    paths = sorted(Path(results, "models").glob("*/*.history.csv"))
    histories = {(path.parent.name, path.name.removesuffix(".history.csv")): pd.read_csv(path) for path in paths}
    return {setting: history for setting, history in histories.items() if len(history)}


def training_curves(histories: dict[tuple[str, str], pd.DataFrame]) -> Figure:
    """A page-wide figure.

    Args:
        histories: (dataset, model) -> rows with columns epoch, split (``train`` or ``validation``) and accuracy.
    """
    panels: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for (dataset, model), history in histories.items():
        of = MODELS[model].training_of if model in MODELS else ""
        panels.setdefault((dataset, of or model), []).append(history)
    with relmap_style():
        columns = min(2, len(panels)) or 1
        rows = -(-len(panels) // columns) or 1
        figure = Figure(figsize=(PAGE_WIDTH, 2.1 * rows + 0.35), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, ((dataset, model), alike) in zip(grid.flat, panels.items(), strict=False):
            for place, (split, (colour, line, label)) in product(range(len(alike)), _LINES.items()):
                part = alike[place][alike[place]["split"] == split]
                axes.plot(part["epoch"], part["accuracy"], line, color=colour, label="" if place else label)
            axes.set_title(fill(setting_name(dataset, model), 48))
            axes.set_xlabel("Epoch")
            axes.set_ylabel("Accuracy")
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if histories:
            handles, labels = grid.flat[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
