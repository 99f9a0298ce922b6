"""AE's figures of numbers: similarity under randomisation (7), pointing against gamma (8), insertion (10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.evidence.statistics import bootstrap_mean
from relmap.figures.style import PAGE_WIDTH, relmap_style

from papers.ae.figures.names import AE, look, method_name

CASCADE = {
    "cascade_rank_signed": "Rank correlation",
    "cascade_rank_absolute": "Rank correlation, |map|",
    "cascade_ssim_signed": "SSIM",
    "cascade_ssim_absolute": "SSIM, |map|",
}
SUBSETS = {"ALL": "counted", "DIF": "difficult"}


def level_means(scores: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Mean of every method, metric and level with its 95 % interval over images.

    Args:
        scores: image_id, method, metric, level, value; NaN values do not count.
        draws: bootstrap samples.
        seed: of them.

    Returns:
        method, metric, level, mean, low, high, images; methods in the order of their first row.
    """
    found = []
    for (method, metric, level), part in scores.dropna(subset="value").groupby(
        ["method", "metric", "level"], sort=False
    ):
        interval = bootstrap_mean(
            part["value"].to_numpy(float), resamples=draws, seed=seed, images=part["image_id"].to_numpy()
        )
        row = {"method": method, "metric": metric, "level": level, "mean": interval.mean}
        found.append({**row, "low": interval.low, "high": interval.high, "images": interval.n})
    return pd.DataFrame(found, columns=["method", "metric", "level", "mean", "low", "high", "images"])


def pointing_by_gamma(
    scores: pd.DataFrame, pairs: pd.DataFrame, sweep: Mapping[float, str], draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Pointing accuracy, mean over classes of the labels, of all pairs and of the difficult ones, for each gamma.

    Args:
        scores: rows of the pointing game.
        pairs: image_id, target, and the flags present, counted, difficult.
        sweep: gamma -> method.
        draws, seed: of the intervals over images.

    Returns:
        gamma, subset (``ALL``, ``DIF``), mean, low, high, images.

    Raises:
        InputError: a gamma has no scores.
    """
    known = scores[scores["metric"] == "pointing_game"].merge(pairs, on=["image_id", "target"])
    found = []
    for gamma, method in sweep.items():
        own = known[(known["method"] == method) & known["present"]]
        if own.empty:
            raise InputError(f"pointing scores: no rows of {method} (gamma {gamma:g}); run the rule that scores it")
        for subset, flag in SUBSETS.items():
            part = own[own[flag].astype(bool)].dropna(subset="value")
            if part.empty:
                continue
            interval = bootstrap_mean(
                part["value"].to_numpy(float),
                resamples=draws,
                seed=seed,
                images=part["image_id"].to_numpy(),
                classes=part["target"].to_numpy(),
            )
            row = {"gamma": gamma, "subset": subset, "mean": interval.mean, "low": interval.low}
            found.append({**row, "high": interval.high, "images": interval.n})
    return pd.DataFrame(found)


def relative(curves: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Curves over the network's accuracy on whole pictures."""
    if not accuracy > 0:
        raise InputError(
            "insertion scores: the network is right on no whole picture, so that nothing is relative to it"
        )
    return curves.assign(**{name: curves[name] / accuracy for name in ("mean", "low", "high")})


def _line(axes: Axes, rows: pd.DataFrame, style: Mapping[str, str], label: str, **more: object) -> None:
    rows = rows.sort_values("level")
    axes.plot(rows["level"], rows["mean"], label=label, ms=3, markevery=3, **style, **more)
    axes.fill_between(rows["level"], rows["low"], rows["high"], color=style["color"], alpha=0.12, lw=0)


def figure07(curves: pd.DataFrame, place: str) -> Figure:
    """Similarity to the trained network's maps against the number of random layers; a panel a measure.

    Args:
        curves: of ``level_means``.
        place: data set and network, for the title.
    """
    metrics = [metric for metric in CASCADE if metric in set(curves["metric"])]
    if not metrics:
        raise InputError(f"cascade scores: none of {', '.join(CASCADE)}; run the rule that scores them")
    methods = tuple(curves["method"].unique())
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.3), layout="constrained")
        grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
        for axes, metric in zip(grid, metrics, strict=True):
            for method in methods:
                rows = curves[(curves["metric"] == metric) & (curves["method"] == method)]
                _line(axes, rows, look(method, methods), method_name(method))
            axes.axhline(0, color="#888888", lw=0.6)
            axes.set(title=CASCADE[metric], xlabel="random layers, from the output")
        grid[0].set_ylabel("similarity to the trained network's map")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods))
        figure.suptitle(place, fontsize=7.5)
    return figure


def figure08(points: Mapping[str, pd.DataFrame]) -> Figure:
    """Pointing accuracy against gamma.

    Args:
        points: name of a data set and network -> ``pointing_by_gamma``.
    """
    colours = dict(zip(SUBSETS, ("#D55E00", "#0072B2"), strict=True))
    with relmap_style():
        figure = Figure(figsize=(min(PAGE_WIDTH, 0.6 + 3.0 * len(points)), 2.5), layout="constrained")
        for axes, (place, frame) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True):
            for shift, (subset, rows) in zip((-0.006, 0.006), frame.groupby("subset", sort=False), strict=False):
                error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
                axes.errorbar(
                    rows["gamma"] + shift,
                    rows["mean"],
                    yerr=error,
                    color=colours[subset],
                    marker="o" if subset == "ALL" else "s",
                    ms=3.5,
                    capsize=2,
                    label=f"{subset} ({int(rows['images'].max())} images)",
                )
            axes.set(title=place, xlabel="gamma", ylabel="pointing accuracy", xticks=sorted(set(frame["gamma"])))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def figure10(
    panels: Mapping[str, pd.DataFrame], networks: Mapping[str, pd.DataFrame], methods: Sequence[str]
) -> Figure:
    """Accuracy against the share of inserted pixels; the last panel has several networks, relative to their own.

    Args:
        panels: name of a network -> ``level_means`` of all methods.
        networks: name of a network -> ``relative`` curves of AE and of the baseline.
        methods: the order of lines.
    """
    shown = tuple(methods)
    with relmap_style():
        count = len(panels) + bool(networks)
        figure = Figure(figsize=(PAGE_WIDTH, 3.0), layout="constrained")
        grid = figure.subplots(1, count, squeeze=False)[0]
        for axes, (name, curves) in zip(grid, panels.items(), strict=False):
            for method in (one for one in shown if one in set(curves["method"])):
                width = {"lw": 1.8} if method == AE else {}
                _line(axes, curves[curves["method"] == method], look(method, shown), method_name(method), **width)
            axes.set(title=name, xlabel="inserted pixels, %", ylabel="accuracy")
        if networks:
            _networks(grid[-1], networks)
            grid[-1].legend(fontsize=5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _networks(axes: Axes, networks: Mapping[str, pd.DataFrame]) -> None:
    colours = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for colour, (name, curves) in zip(colours, networks.items(), strict=False):
        for method, rows in curves.groupby("method", sort=False):
            rows = rows.sort_values("level")
            line = "-" if method == AE else (0, (1.2, 1.2))
            axes.plot(rows["level"], rows["mean"], color=colour, ls=line, label=f"{name}, {method_name(method)}")
    axes.set(title="Several networks", xlabel="inserted pixels, %", ylabel="accuracy over that on whole pictures")
    axes.set_ylim(bottom=min(0.0, *(float(np.nanmin(curves["mean"])) for curves in networks.values())))
