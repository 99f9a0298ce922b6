"""Minimal pairs: maps of a bird for its class and for its sibling's, and every method's numbers beside chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relmap.catalogue.methods import find
from relmap.catalogue.metrics import METRICS
from relmap.catalogue.rows import label
from relmap.errors import InputError
from relmap.evidence.siblings import Siblings
from relmap.figures.colours import EMPTY, SIGNED, UNSIGNED
from relmap.figures.gallery import coloured
from relmap.figures.page import Page
from relmap.figures.style import PAGE_HEIGHT, PAGE_WIDTH, relmap_style, signed

METRIC = "minimal_pairs"
_MARGIN, _GAP = 0.04, 0.05
_LETTERS = 0.62  # inches, at the left
_MODELS = (("o", "#0072b2"), ("s", "#d55e00"), ("^", "#009e73"))


def net_shares(maps: np.ndarray, differs: np.ndarray) -> np.ndarray:
    """(N, 2) signed share of each map (N, 2, H, W) where birds differ (N, H, W); 0 of maps that are 0 everywhere."""
    total = np.abs(maps).sum((2, 3))
    inside = (maps * differs[:, None]).sum((2, 3))
    return np.divide(inside, total, out=np.zeros_like(total), where=total > 0)


def siblings_figure(siblings: Siblings, maps: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Two rows a bird: what speaks for its class and, on the same picture, for its sibling's; the part is outlined.

    Left the bird, and below it the sibling. Under a map the signed share of its relevance in the part.

    Args:
        siblings: N birds; of none the figure says so.
        maps: method id -> (N, 2, H, W), in the order of the columns.
        names: of the classes.

    Raises:
        InputError: there is no method.
    """
    if not maps:
        raise InputError("minimal pairs: the network admits no method of `engine.siblings.methods`; name others")
    if not siblings.parts:
        return _words("No bird and its sibling are both classified rightly.")
    side = (PAGE_WIDTH - 2 * _MARGIN - _LETTERS) / (len(maps) + 1) - _GAP
    titles = ["\n".join(wrap(text, int(side / 0.042))) for text in ("bird", *(find(name).label for name in maps))]
    head = 0.09 * max(title.count("\n") + 1 for title in titles) + 0.08
    step = side + 0.13
    page = Page(PAGE_WIDTH, head + len(siblings.parts) * (2 * step + 0.1) + 0.36)
    shares = {name: net_shares(own, siblings.differs) for name, own in maps.items()}
    lefts = [_MARGIN + _LETTERS + place * (side + _GAP) for place in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        page.text(title, left + side / 2, head - 0.04, va="bottom", linespacing=1.05)
    top = head
    for bird, part in enumerate(siblings.parts):
        region = _hull(siblings.differs[bird])
        for row, picture in enumerate((siblings.pictures[bird], siblings.changed[bird])):
            what = names[siblings.targets[bird, row]]
            words = [f"the {part.replace('_', ' ')}:" if not row else "for its sibling:", *wrap(what, 14)]
            page.text("\n".join(words), _MARGIN, top + side / 2, ha="left")
            images = [picture, *(coloured(own[bird, row], find(name).signed) for name, own in maps.items())]
            under = ["", *(signed(shares[name][bird, row], 2) for name in maps)]
            for left, image, text in zip(lefts, images, under, strict=True):
                page.picture(image, left, top, side, smooth=image is picture)
                page.outline(left, top, side)
                page.box(
                    region,
                    len(picture),
                    left,
                    top,
                    side,
                    colour="#000000" if image is not picture else "#FFD400",
                    bold=image is picture,
                )
                page.text(text or "", left + side / 2, top + side + 0.05)
                if (image == 255).all():
                    page.text(EMPTY, left + side / 2, top + side / 2, color="#777777")
            top += step
        top += 0.1
    page.colour_bar(0.45, top + 0.05, 1.8, ["against the class", "0", "for the class"], SIGNED)
    page.colour_bar(2.85, top + 0.05, 0.9, ["0", "large"], UNSIGNED, lowest=0)
    return page.figure()


def _hull(differs: np.ndarray) -> tuple[float, float, float, float]:
    """[x0, y0, x1, y1] around the pixels that differ."""
    (ys,), (xs,) = (np.nonzero(differs.any(axis)) for axis in (1, 0))
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def _words(text: str) -> Figure:
    """What stands where there is nothing to draw."""
    page = Page(PAGE_WIDTH, 0.5)
    page.text(text, PAGE_WIDTH / 2, 0.25)
    return page.figure()


def numbers_figure(standings: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """A panel a number, a row a method, a mark a network with its bootstrap interval; chance is a line.

    Shown are the three networks that explain themselves by the most methods.

    Args:
        standings: ``tables/leaderboard.csv``.
        labels: method id -> its name for readers, papers' own methods included.
    """
    columns = [column for column in METRICS[METRIC].columns if column.rows in set(standings["metric"])]
    rows = standings[standings["metric"].isin([column.rows for column in columns])]
    if not len(rows):
        return _words("No method has a number: the networks know too few birds and siblings.")
    counts = rows.groupby("model", sort=False)["method"].nunique().sort_values(ascending=False, kind="stable")
    models = [name for name in rows["model"].unique() if name in counts.index[: len(_MODELS)]]
    rows = rows[rows["model"].isin(models)]
    order = _order(rows)
    with relmap_style():
        height = min(PAGE_HEIGHT, 1.0 + 0.145 * len(order))
        figure = Figure(figsize=(PAGE_WIDTH, height), layout="constrained")
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            own = rows[rows["metric"] == column.rows]
            for place, model in enumerate(models):
                marker, colour = _MODELS[place]
                of_model = own[own["model"] == model].set_index("method")
                of_model = of_model.loc[[name for name in order if name in of_model.index]]
                shift = 0.6 * (place - (len(models) - 1) / 2) / len(models)
                heights = [order.index(name) + shift for name in of_model.index]
                axes.hlines(heights, of_model["mean_low"], of_model["mean_high"], color=colour, linewidth=0.8)
                axes.plot(of_model["mean"], heights, marker, color=colour, markersize=2.2, label=label(model))
            if column.chance is not None:
                axes.axvline(column.chance, color="black", linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)
            axes.set_title("\n".join(wrap(column.id.replace("_", " "), 16)), fontsize=6.5)
            axes.tick_params(axis="x", labelsize=6)
        controls = set(rows.loc[rows["control"].astype(bool), "method"])
        panels[0].set_yticks(range(len(order)), [labels.get(name, label(name)) for name in order], fontsize=5.6)
        for text, name in zip(panels[0].get_yticklabels(), order, strict=True):
            text.set_style("italic" if name in controls else "normal")
        panels[0].set_ylim(len(order) - 0.4, -0.6)
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside lower center", ncols=len(models))
    return figure


def _order(rows: pd.DataFrame) -> list[str]:
    """Methods by their target sensitivity, mean over networks, the best first; then those that have none."""
    first = rows[rows["metric"] == "target_sensitivity"].groupby("method")["mean"].mean()
    known = first.sort_values(ascending=False, kind="stable").index.tolist()
    return [*known, *sorted(set(rows["method"]) - set(known))]
