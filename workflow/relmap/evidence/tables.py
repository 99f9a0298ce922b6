"""The papers' tables: published beside reproduced, with intervals.

The mean over images of the per-pair values of a metric fills a published cell (:func:`fill`). Where a model stands for
several trainings, which differ in their seed, the cell is the mean over them of their means. A cell without scores
stays empty and says what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from relmap.catalogue.metrics import Column
from relmap.catalogue.papers import Cell, cells
from relmap.catalogue.rows import Rows
from relmap.evidence.statistics import (
    RESAMPLES,
    bootstrap_change,
    bootstrap_trainings,
    class_weights,
    holm,
    sign_flip_test,
)
from relmap.evidence.values import (
    Values,
    by_cell,
    classes_of,
    has_values,
    images_of,
    interval_of,
    paired_differences,
    single_key_of,
    trainings_of,
)

MEASURED = (
    "dataset",
    "model",
    "metric",
    "select",
    "method",
    "label",
    "value",
    "ci_low",
    "ci_high",
    "n_images",
    "n_pairs",
    "missing",
)


def fill(
    published: pd.DataFrame,
    scores: pd.DataFrame,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    control_methods: Sequence[str] = (),
    known: Rows | None = None,
    missing: Mapping[str, str] | None = None,
    guests: Sequence[str] = (),
) -> pd.DataFrame:
    """Put our value beside every published one, the user's own methods below, and the controls last.

    Args:
        published: a table as :func:`relmap.catalogue.papers.published` gives it.
        scores: per-pair values as :func:`image_scores` gives them.
        confidence: coverage of the bootstrap intervals.
        resamples: bootstrap samples.
        seed: of the resampling.
        control_methods: methods to add a row of for each data set, model, metric and variant of the table.
        known: the rows of the run; the catalogue's by default.
        missing: cell, as text -> the ingredient that the run lacks for it.
        guests: methods that the paper has not, and the user sets beside its own.

    Returns:
        The published rows in their order, the guests', the controls' (``role`` tells them apart), and ``reproduced``,
        ``ci_low``, ``ci_high``, ``reproduced_std`` over pairs, ``n_images`` and ``n_pairs``. A cell that this run has
        no ingredient for has no value, and ``missing`` names the first ingredient that it lacks. Where a model stands
        for several trainings, ``n_trainings`` says how many the run has, and ``reproduced_std`` is theirs (n - 1).
        Where methods refine others, ``gain_p`` is the p of the gain, by a paired test over images, one-sided, corrected
        over the gains of the table (Holm); NaN where there is none.
    """
    known = known or Rows()
    below = [
        *_rows_below(published, guests, "guest", known),
        *_rows_below(published, control_methods, "control", known),
    ]
    table = pd.concat([published.assign(role="published"), *below], ignore_index=True)
    ours = _our_values(list(cells(table)), scores, (confidence, resamples, seed), known, missing or {})
    names = [name for name in _Ours.__dataclass_fields__ if name != "n_trainings" or _of_trainings(ours)]
    filled = table.assign(**{name: [getattr(one, name) for one in ours] for name in names})
    return (
        filled.assign(gain_p=_gains(table, scores, known, seed))
        if "wraps" in table and (table["wraps"] != "").any()
        else filled
    )


def _gains(table: pd.DataFrame, scores: pd.DataFrame, known: Rows, seed: int) -> np.ndarray:
    """Corrected p of each cell's gain over the method that its own refines; NaN where that has no value here."""
    asked, columns = list(cells(table)), known.columns()
    values = {select: by_cell(scores, select) for select in {cell.select for cell in asked}}
    found = np.full(len(asked), np.nan)
    for place, (cell, refined) in enumerate(zip(asked, table["wraps"], strict=True)):
        column = columns[cell.metric][1] if cell.metric in columns else None
        # A change against a third method has no value for each image.
        if refined and column and not column.against and (cell.select or not cell.variant):
            sides = trainings_of([cell, replace(cell, method=refined)], values[cell.select], known)
            if sides:
                found[place] = _gain_p(sides, column, seed)
    tested = ~np.isnan(found)
    found[tested] = holm(found[tested])
    return found


def _gain_p(sides: Sequence[Sequence[pd.Series]], column: Column, seed: int) -> float:
    """One-sided p of the mean difference, each image with its mean over trainings."""
    better = 1 if column.higher_is_better else -1
    gains = pd.concat([paired_differences(own, base) for own, base in sides], axis=1).mean(axis=1) * better
    weights = class_weights(classes_of(gains)) if column.mean == "classes" and len(gains) else 1.0
    return sign_flip_test(gains.to_numpy() * weights, "greater", seed=seed, images=images_of(gains))


def trainings_note(table: pd.DataFrame) -> str:
    """What a filled table's caption says of trainings: how many stand behind its cells; nothing of single networks."""
    if "n_trainings" not in table or not table["n_trainings"].any():
        return ""
    counts = table[table["n_trainings"] > 0].groupby("label", sort=False)["n_trainings"].max()
    most = int(counts.max())
    fewer = ", ".join(f"{label}: {count}" for label, count in counts.items() if count != most)
    what = "mean ± standard deviation (n - 1) over {} trainings" if most > 1 else "{} training"
    return f"Ours: {what.format(most)}{f' ({fewer})' if fewer else ''}; seeds differ, all else is the same."


def images_note(table: pd.DataFrame) -> str:
    """How many images stand behind a filled table's values, in words; nothing where it has none."""
    counts = table.loc[table["reproduced"].notna(), "n_images"].astype(int)
    if counts.empty:
        return ""
    least, most = int(counts.min()), int(counts.max())
    return f"Ours over {most} images" if least == most else f"Ours over {least} to {most} images, see n_images"


def measured(
    wanted: Iterable[Cell],
    scores: pd.DataFrame,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    control_methods: Sequence[str] = (),
    known: Rows | None = None,
    missing: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Our values of what a paper shows beside its tables, tidy, with the controls below each group.

    Args:
        wanted: the cells.
        scores, confidence, resamples, seed, control_methods, known, missing: as of :func:`fill`.

    Returns:
        The columns of ``MEASURED``, a row for each cell; one that has no value says what it lacks. Where a model stands
        for several trainings, also ``n_trainings`` and ``std``, as of :func:`fill`.
    """
    known = known or Rows()
    groups: dict[Cell, dict[Cell, None]] = {}
    for cell in wanted:
        groups.setdefault(replace(cell, method=""), {})[cell] = None
    for place, own in groups.items():
        own |= dict.fromkeys(replace(place, method=method) for method in control_methods)
    asked = [cell for own in groups.values() for cell in own]
    ours = _our_values(asked, scores, (confidence, resamples, seed), known, missing or {})
    rows = [
        (
            *(cell.dataset, cell.model, cell.metric, cell.select, cell.method, known.label(cell.method)),
            *(one.reproduced, one.ci_low, one.ci_high, one.n_images, one.n_pairs, one.missing),
        )
        for cell, one in zip(asked, ours, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=list(MEASURED))
    if not _of_trainings(ours):
        return frame
    spreads = [one.reproduced_std if one.n_trainings else np.nan for one in ours]
    frame.insert(frame.columns.get_loc("ci_low"), "std", spreads)
    frame.insert(frame.columns.get_loc("missing"), "n_trainings", [one.n_trainings for one in ours])
    return frame


@dataclass(frozen=True)
class _Ours:
    """What stands beside a published value: the columns that :func:`fill` adds."""

    reproduced: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    reproduced_std: float = np.nan
    n_images: int = 0
    n_pairs: int = 0
    missing: str = ""
    n_trainings: int = 0


def _of_trainings(ours: Iterable[_Ours]) -> bool:
    """Whether any value is one of several trainings; tables of single networks say nothing of them."""
    return any(one.n_trainings for one in ours)


def _our_values(
    asked: Sequence[Cell],
    scores: pd.DataFrame,
    resampling: tuple[float, int, int],
    known: Rows,
    missing: Mapping[str, str],
) -> list[_Ours]:
    """What stands beside each cell; ``resampling``: confidence, number of resamples, seed."""
    values = {select: by_cell(scores, select) for select in {cell.select for cell in asked}}
    columns = known.columns()
    ours = []
    for cell in asked:
        column = columns[cell.metric][1] if cell.metric in columns else None
        # What a value is compared with must be there too.
        against = replace(cell, method=column.against, variant="") if column and column.against else None
        if len(known.stands_for(cell.model, cell.method)) > 1:
            ours.append(_our_trainings(cell, against, column, values[cell.select], known, resampling, missing))
            continue
        sides = [one for one in (cell, against) if one]
        lacking = next(filter(None, (_lacking(one, values[cell.select], known, missing) for one in sides)), "")
        if lacking:
            ours.append(_Ours(missing=lacking))
            continue
        found, *base = (values[cell.select][single_key_of(one, known)] for one in sides)
        if against:
            ours.append(_our_change(found, *base, against.method, *resampling))
        else:
            ours.append(_our_value(found, *resampling, column.mean == "classes"))
    return ours


def _our_trainings(
    cell: Cell,
    against: Cell | None,
    column: Column | None,
    values: Values,
    known: Rows,
    resampling: tuple[float, int, int],
    missing: Mapping[str, str],
) -> _Ours:
    """Of a model that stands for several trainings: what is there of them."""
    sides = [one for one in (cell, against) if one]
    lacking = next((missing[str(one)] for one in sides if str(one) in missing), "")
    own = trainings_of(sides, values, known) if not lacking and (cell.select or not cell.variant) else []
    if not own:
        return _Ours(missing=lacking or f"scores of {cell}")
    joined = [pd.concat(dict(enumerate(parts)), axis=1).dropna() for parts in own]
    interval, spread = bootstrap_trainings(
        [one[0].to_numpy() for one in joined],
        *resampling,
        [images_of(one) for one in joined],
        [classes_of(one) for one in joined] if column.mean == "classes" else None,
        [one[1].to_numpy() for one in joined] if against else None,
    )
    if not interval.n:
        return _Ours(missing=f"a change: the mean of {against.method} is 0")
    return _Ours(interval.mean, interval.low, interval.high, spread, interval.n, interval.pairs, "", len(own))


def _our_change(
    values: pd.Series, base: pd.Series, against: str, confidence: float, resamples: int, seed: int
) -> _Ours:
    both = pd.concat({"values": values, "base": base}, axis=1).dropna()
    sides = both["values"].to_numpy(), both["base"].to_numpy()
    interval = bootstrap_change(*sides, confidence, resamples, seed, images_of(both))
    if not interval.n:
        return _Ours(missing=f"a change: the mean of {against} is 0")
    return _Ours(interval.mean, interval.low, interval.high, np.nan, interval.n, interval.pairs)


def _our_value(values: pd.Series, confidence: float, resamples: int, seed: int, by_class: bool) -> _Ours:
    interval = interval_of(values, confidence, resamples, seed, by_class)
    return _Ours(interval.mean, interval.low, interval.high, values.std(ddof=0), interval.n, interval.pairs)


def _lacking(cell: Cell, values: Values, known: Rows, missing: Mapping[str, str]) -> str:
    """What a cell lacks, in words: what the run knows of, or else its scores; nothing if it has a value."""
    scored = has_values(values, single_key_of(cell, known)) and bool(cell.select or not cell.variant)
    return missing.get(str(cell), "" if scored else f"scores of {cell}")


def _rows_below(published: pd.DataFrame, methods: Sequence[str], role: str, known: Rows) -> list[pd.DataFrame]:
    """A row for each method in each column of a table, without a printed value."""
    columns = published.drop_duplicates(["dataset", "model", "metric", "variant"])
    # What decides between a method's ids says nothing of another method.
    columns = columns.assign(variant_label=columns["variant_label"].where(columns["variant"] != "", ""))
    blank = {"value": "", "std": "", "emphasis": "", "note": "", "wraps": "", "role": role}
    taken = set(published["label"])
    labels = {name: known.label(name) + (f" ({name})" if known.label(name) in taken else "") for name in methods}
    return [
        columns.assign(method=method, printed=method, label=labels[method], **blank)
        for method in methods
        if method not in set(published["method"])
    ]
