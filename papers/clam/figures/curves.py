"""Pointing accuracy against residual energy (Figures 5 and 6 of CLAM), with bootstrap bands over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from relmap.errors import InputError
from relmap.figures.style import PAGE_HEIGHT, PAGE_WIDTH, relmap_style, setting_name

from papers.clam.figures.names import (
    COLOURS,
    LRP_METHODS,
    MARKERS,
    OTHER_METHODS,
    base_method,
    method_name,
    refined,
)

Setting = tuple[str, str]  # dataset id, model id


def score_matrix(pointing: pd.DataFrame, method: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """One method's pointing accuracies as a matrix.

    Args:
        pointing: columns image_id, target, method, level (residual energy in (0, 1]) and value.
        method: method id.

    Returns:
        values (pairs, levels); levels (levels,), rising; the image of each pair, sorted.

    Raises:
        InputError: the method has no rows, or a pair lacks a value.
    """
    rows = pointing[pointing["method"] == method]
    if rows.empty:
        raise InputError(f"pointing scores: no rows of method '{method}'; run the rule that scores it")
    table = rows.pivot(index=["image_id", "target"], columns="level", values="value").sort_index(axis=0)
    table = table.sort_index(axis=1)
    if table.isna().any(axis=None):
        image, target = table.index[table.isna().any(axis=1).argmax()]
        raise InputError(f"pointing scores of '{method}': none of image {image} with target {target} at some level")
    images = table.index.get_level_values("image_id")
    return table.to_numpy(float), table.columns.to_numpy(float), [str(image) for image in images]


def bootstrap_band(
    values: np.ndarray,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    images: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over pairs of image and target and its percentile bootstrap interval over images, per column.

    All columns are resampled together (an image keeps its whole curve), and every call with the same number of images
    uses the same draws, so that curves of different methods are comparable.

    Args:
        values: (pairs, columns).
        draws: number of bootstrap samples.
        level: coverage of the interval.
        seed: of the resampling.
        images: the image of each pair, which are drawn together; without it each is its own.

    Returns:
        mean, low, high: (columns,) each.
    """
    own = np.arange(len(values)) if images is None else np.unique(np.asarray(images), return_inverse=True)[1]
    count = int(own.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(float)
    weights = drawn[:, own]
    samples = (weights @ values) / weights.sum(axis=1, keepdims=True)
    tail = 50 * (1 - level)
    low, high = np.percentile(samples, [tail, 100 - tail], axis=0)
    return values.mean(axis=0), low, high


def energy_curves(pointing: pd.DataFrame, methods: Sequence[str], **bootstrap) -> pd.DataFrame:
    """Mean pointing accuracy per residual energy, with its interval.

    Args:
        pointing: as for ``score_matrix``.
        methods: which of them; those without rows are left out.
        bootstrap: passed to ``bootstrap_band``.

    Returns:
        Columns method, energy, accuracy, low, high, images.
    """
    parts = []
    present = set(pointing["method"])
    for method in methods:
        if method not in present:
            continue
        values, levels, images = score_matrix(pointing, method)
        mean, low, high = bootstrap_band(values, images=images, **bootstrap)
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "energy": levels,
                    "accuracy": mean,
                    "low": low,
                    "high": high,
                    "images": len(set(images)),
                }
            )
        )
    columns = ["method", "energy", "accuracy", "low", "high", "images"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def gain_curves(pointing: pd.DataFrame, methods: Sequence[str], **bootstrap) -> pd.DataFrame:
    """Gain of CLAM per residual energy, image by image, with its interval: the curves' own bands hide it.

    Args:
        pointing: as for ``score_matrix``.
        methods: base methods; those that lack rows, with or without CLAM, are left out.
        bootstrap: passed to ``bootstrap_band``.

    Returns:
        Columns method, energy, gain, low, high.
    """
    parts, present = [], set(pointing["method"])
    for method in methods:
        if {method, refined(method)} <= present:
            (base, levels, images), (own, *_) = (score_matrix(pointing, name) for name in (method, refined(method)))
            mean, low, high = bootstrap_band(own - base, images=images, **bootstrap)
            parts.append(pd.DataFrame({"method": method, "energy": levels, "gain": mean, "low": low, "high": high}))
    columns = ["method", "energy", "gain", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _draw(axes: Axes, curves: pd.DataFrame, method: str, dotted: bool, band: bool = True) -> None:
    rows = curves[curves["method"] == method]
    if rows.empty:
        return
    base = base_method(method)
    colour = COLOURS.get(base, "#444444")
    axes.plot(
        rows["energy"],
        rows["accuracy"],
        color=colour,
        ls=(0, (1.2, 1.2)) if dotted else "-",
        marker=MARKERS.get(base, "."),
        markevery=(0, 3) if dotted else (1, 3),
        ms=3,
        mew=0.7,
        mfc="white" if dotted else colour,
        label=method_name(method),
        zorder=2 if dotted else 3,
    )
    if band:
        axes.fill_between(rows["energy"], rows["low"], rows["high"], color=colour, alpha=0.12, lw=0)


def _draw_gains(axes: Axes, gains: pd.DataFrame) -> None:
    axes.axhline(0, color="#777777", lw=0.6)
    for method, rows in gains.groupby("method", sort=False):
        colour = COLOURS.get(method, "#444444")
        axes.plot(rows["energy"], rows["gain"], color=colour, marker=MARKERS.get(method, "."), markevery=(1, 3), ms=2.5)
        axes.fill_between(rows["energy"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    axes.set_ylabel("CLAM's gain")
    _dress(axes)


def _dress(axes: Axes) -> None:
    axes.set_xlim(0, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def clam_figure05(curves: Mapping[Setting, pd.DataFrame], gains: Mapping[Setting, pd.DataFrame]) -> Figure:
    """Figure 5: a panel a data set and model; LRP, CLRP and SGLRP dotted, each with CLAM solid; below, CLAM's gain.

    Args:
        curves: ``energy_curves`` per (dataset, model).
        gains: ``gain_curves`` of the same.

    Returns:
        A figure of a page's width. All panels have the same axes.
    """
    with relmap_style():
        columns = min(2, len(curves))
        rows = -(-len(curves) // columns)
        figure = Figure(figsize=(PAGE_WIDTH, min(3.5 * rows + 0.35, PAGE_HEIGHT)), layout="constrained")
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.4, 1] * rows, sharex=True)
        uppers, lowers = grid[::2], grid[1::2]
        for group in (uppers, lowers):
            for axes in group.flat[1:]:
                axes.sharey(group.flat[0])
            for axes in group.flat[len(curves) :]:
                axes.set_visible(False)
        for axes, key in zip(lowers.flat, curves, strict=False):
            _draw_gains(axes, gains[key])
        for axes, ((dataset, model), frame) in zip(uppers.flat, curves.items(), strict=False):
            for method in LRP_METHODS:
                _draw(axes, frame, method, dotted=True)
                _draw(axes, frame, refined(method), dotted=False)
            images = int(frame["images"].max()) if len(frame) else 0
            axes.set_title(f"{setting_name(dataset, model)} ({images} images)")
            axes.set_ylabel("Pointing accuracy")
            _dress(axes)
        for axes in lowers[-1]:
            axes.set_xlabel("Residual energy")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, handlelength=2.6)
    return figure


def clam_figure06(curves: Mapping[Setting, pd.DataFrame]) -> Figure:
    """Figure 6: a row a data set and model, a column an LRP rule with and without CLAM; other explainers dotted.

    Args:
        curves: ``energy_curves`` per (dataset, model), with the other explainers.

    Returns:
        A figure of a page's width.
    """
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, min(1.95 * len(curves) + 0.8, PAGE_HEIGHT)), layout="constrained")
        grid = figure.subplots(len(curves), len(LRP_METHODS), squeeze=False, sharex=True, sharey=True)
        for row, ((dataset, model), frame) in zip(grid, curves.items(), strict=True):
            for axes, method in zip(row, LRP_METHODS, strict=True):
                for other in OTHER_METHODS:
                    _draw(axes, frame, other, dotted=True, band=False)
                _draw(axes, frame, method, dotted=True)
                _draw(axes, frame, refined(method), dotted=False)
                _dress(axes)
            row[0].set_ylabel(f"{setting_name(dataset, model)}\nPointing accuracy")
        for axes, method in zip(grid[0], LRP_METHODS, strict=True):
            axes.set_title(f"{method_name(method)} and {method_name(refined(method))}")
        for axes in grid[-1]:
            axes.set_xlabel("Residual energy")
        found: dict[str, object] = {}
        for axes in grid.flat:
            handles, labels = axes.get_legend_handles_labels()
            found.update(zip(labels, handles, strict=True))
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=6, handlelength=2.6)
    return figure
