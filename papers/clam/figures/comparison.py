"""Relevance maps side by side: one row an image, one column a method; rows chosen by measured gain of CLAM."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.figures.colours import EMPTY, UNSIGNED, is_signed
from relmap.figures.overlays import CLIP_PERCENTILE, overlay
from relmap.figures.page import Page
from relmap.figures.results import Row
from relmap.figures.style import PAGE_WIDTH, signed

from papers.clam.figures.names import method_name
from papers.clam.methods import CLAM_ARM, clam_methods

# Beside the LRP rules. Figures 7 and 8 show these; the other captions name no columns, so they are used throughout.
_OTHER_COLUMNS = ("saliency", "guided_backprop", "grad_cam", "excitation_backprop")


def columns(arm: str = CLAM_ARM) -> tuple[str, ...]:
    """Method ids of a comparison figure: every LRP rule without and with CLAM (of an arm), then other explainers."""
    pairs = ((refined.wraps, refined.id) for refined in clam_methods(arm))
    return (*(method for pair in pairs for method in pair), *_OTHER_COLUMNS)


def gains(pointing: pd.DataFrame, arm: str = CLAM_ARM) -> pd.DataFrame:
    """What CLAM gains per image: mean pointing accuracy over energies with CLAM, minus that without.

    Args:
        pointing: columns image_id, target, method, level, value; one target an image.
        arm: which CLA-layers.

    Returns:
        Index image_id (sorted); a column per refined method (``lrp_clam``, ...) that is there with and without CLAM,
        and ``gain``, their mean.

    Raises:
        InputError: no LRP rule is there both with and without CLAM, or an image has several targets.
    """
    targets = pointing.groupby("image_id")["target"].nunique()
    if (targets > 1).any():
        raise InputError(
            f"pointing scores: image {targets.idxmax()} has {targets.max()} targets, but gains are of images with one; "
            "draw them on data with one label an image"
        )
    accuracy = pointing.pivot_table(index="image_id", columns="method", values="value", aggfunc="mean").sort_index()
    both = [method for method in clam_methods(arm) if method.id in accuracy and method.wraps in accuracy]
    if not both:
        raise InputError(f"pointing scores: no LRP rule is there both with and without CLAM (arm '{arm}')")
    frame = pd.DataFrame({method.id: accuracy[method.id] - accuracy[method.wraps] for method in both})
    frame["gain"] = frame.mean(axis=1)
    return frame


def choose(frame: pd.DataFrame, targets: pd.DataFrame, count: int, which: str) -> list[str]:
    """Pick images by measured gain, each from another class, among those that the network classifies rightly.

    Wrongly classified images, and second images of a class, are taken only when there are too few others.

    Args:
        frame: of ``gains``.
        targets: columns image_id, target, correct; a row an image.
        count: how many; fewer come back when there are fewer images.
        which: ``high`` (largest gain first), ``low`` (smallest first) or ``typical`` (nearest the median first).

    Returns:
        Image ids, best match first; ties go to the smaller id.

    Raises:
        InputError: ``which`` is none of these.
    """
    if which not in ("high", "low", "typical"):
        raise InputError(f"choose: '{which}' is none of high, low, typical")
    known = targets.set_index("image_id")
    pool = frame[["gain"]].join(known[["target", "correct"]], how="inner")
    # The median is of the pool that rows come from first: the rightly classified.
    median = pool.loc[pool["correct"].astype(bool), "gain"].median() if pool["correct"].any() else pool["gain"].median()
    order = {"high": -pool["gain"], "low": pool["gain"], "typical": (pool["gain"] - median).abs()}[which]
    wrong = ~pool["correct"].astype(bool)
    pool = pool.assign(order=order.round(12), image=pool.index, wrong=wrong).sort_values(["wrong", "order", "image"])
    pool = pool.assign(repeated=pool.duplicated("target")).sort_values(["wrong", "repeated", "order", "image"])
    chosen = pool.iloc[:count].sort_values(["order", "image"])
    return [str(image) for image in chosen.index]


def comparison_figure(rows: Sequence[Row], methods: Sequence[str]) -> Figure:
    """Draw rows of maps over their grey pictures, blue to red through white; purple where a method tells sizes only.

    Every map is divided by the 99.5th percentile of its own magnitude, so colours compare within a map, not between.

    Args:
        rows: at least one.
        methods: ids, a column each.

    Returns:
        A figure of a page's width.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("comparison figure: no images to show; are there scores and targets of any?")
    titles = ["Input", *(method_name(method, lines=True) for method in methods)]
    label_width, footer = 0.78, 0.42
    header = 0.1 + 0.09 * max(title.count("\n") + 1 for title in titles)
    cell = (PAGE_WIDTH - label_width) / (len(methods) + 1)
    side = cell - 0.03
    shown_gains = any(row.gains for row in rows)
    pitch = cell + (0.1 if shown_gains else 0.0)
    page = Page(PAGE_WIDTH, header + pitch * len(rows) + footer)
    for column, title in enumerate(titles):
        left = label_width + column * cell + side / 2
        page.text(title, left, header - 0.04, va="bottom", fontsize=5.8, linespacing=1)
    for number, row in enumerate(rows):
        pixels, top = row.picture.shape[0], header + number * pitch
        page.text(row.label, label_width - 0.05, top + side / 2, ha="right", fontsize=5)
        page.picture(row.picture, label_width, top, side)
        for box in row.boxes:
            page.box(box, pixels, label_width, top, side)
        for column, method in enumerate(methods, start=1):
            left = label_width + column * cell
            if method not in row.maps:
                page.frame(left, top, side, "no map")
                continue
            if not row.maps[method].any():
                page.frame(left, top, side, EMPTY)
                continue
            two_signs = is_signed(method)
            page.picture(overlay(row.picture, row.maps[method], two_signs), left, top, side, smooth=False)
            for box in row.boxes:
                page.box(box, pixels, left, top, side, colour="black", bold=False)
            if method in row.gains:
                page.text(signed(row.gains[method]), left + side / 2, top + side + 0.015, va="top", fontsize=5)
    foot = header + pitch * len(rows) + 0.08
    page.colour_bar(0.58 * PAGE_WIDTH, foot + 0.03, 0.22 * PAGE_WIDTH, ["against the class", "0", "for the class"])
    page.colour_bar(0.86 * PAGE_WIDTH, foot + 0.03, 0.1 * PAGE_WIDTH, ["0", "large"], UNSIGNED, lowest=0)
    note = f"Colour: relevance / {CLIP_PERCENTILE:g}th percentile of its magnitude. Box: the object's, as annotated."
    if shown_gains:
        note += "\nUnder maps with CLAM: gain in pointing accuracy of that image, mean over residual energies."
    page.text(note, 0.05, foot + 0.1, ha="left")
    return page.figure()
