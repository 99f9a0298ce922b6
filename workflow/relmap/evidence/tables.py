"""The papers' tables: published beside reproduced, with intervals, as CSV, Markdown and LaTeX.

Score rows (one per image, method, metric and level) become per-pair values of the published metrics
(:func:`image_scores`); the mean of those over images fills a published cell (:func:`fill`). Where
a model stands for several trainings, which differ in their seed, the cell is the mean over them of their means. A cell
without scores stays empty and says what it lacks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relmap.catalogue.metrics import Column
from relmap.catalogue.papers import FLAGS, PRINTED, Cell, cells
from relmap.catalogue.rows import Rows
from relmap.errors import InputError
from relmap.evidence.statistics import (
    RESAMPLES,
    Interval,
    area_under,
    bootstrap_change,
    bootstrap_mean,
    bootstrap_trainings,
)
from relmap.job.files import atomic_paths

CELL = ["dataset", "model", "method", "metric"]
# What has a value: a pair of an image and the class that is explained.
PAIR = ["image_id", "target"]

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

Values = Mapping[tuple[str, str, str, str], pd.Series]


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown; ``interval`` is that of our value, ``[.39, .43]``."""

    text: str = ""
    bold: bool = False
    underlined: bool = False
    interval: str = ""


_BLANK = Shown()


def image_scores(
    rows: pd.DataFrame, dataset: str, model: str, known: Rows | None = None, pairs: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Turn score rows of one data set and model into per-pair values of the published numbers.

    Each column of a metric's row (``relmap.catalogue.metrics``) is the mean over the levels of a pair that it chooses,
    or the area under its curve.

    Args:
        rows: columns image_id, target, method, metric, level, value; one or several metric families.
        dataset: id to add.
        model: id to add.
        known: the rows of the run; the catalogue's by default.
        pairs: what is true of each pair, as ``evaluation.target_frame`` tells it; needed where tables select by it.

    Returns:
        Columns dataset, model, method, metric, image_id, target, value, and of ``pairs`` the flags.

    Raises:
        InputError: an unknown metric, a pair that a method lacks, or that lacks levels that others have, or one that
            some methods have a value of and others do not: what a metric cannot say of a picture it says of no method.
    """
    where = f"scores of {dataset} with {model}"
    columns = [column for _, column in (known or Rows()).columns().values()]
    unknown = sorted(set(rows["metric"]) - {column.rows for column in columns})
    if unknown:
        raise InputError(f"{where}: no metric's row reads {unknown[0]}; delete the scores and run again")
    parts = []
    for metric, family in rows.groupby("metric", sort=True):
        _check_pairs(family, metric, where)
        _check_levels(family, metric, where)
        _check_values(family, metric, where)
        parts += [_over_levels(family, column) for column in columns if column.rows == metric]
    scores = pd.concat(parts, ignore_index=True).assign(dataset=dataset, model=model)[[*CELL, *PAIR, "value"]]
    return scores if pairs is None else _with_flags(scores, pairs, where)


def _with_flags(scores: pd.DataFrame, pairs: pd.DataFrame, where: str) -> pd.DataFrame:
    """Scores with the flags of their pairs.

    Raises:
        InputError: a pair that is not among the run's targets.
    """
    found = scores.merge(pairs[[*PAIR, *FLAGS]], how="left", on=PAIR, validate="many_to_one", indicator=True)
    strays = found[found["_merge"] != "both"]
    if len(strays):
        image, target = strays.iloc[0][PAIR]
        raise InputError(f"{where}: image {image} with target {target} is none of the targets; delete the scores")
    return found.drop(columns="_merge").astype(dict.fromkeys(FLAGS, bool))


def _check_pairs(family: pd.DataFrame, metric: str, where: str) -> None:
    """Every method has rows of the same pairs: means over others would compare methods on different pictures."""
    methods = family["method"].unique()
    found = family.groupby(PAIR, sort=False)["method"].nunique()
    if found.nunique() > 1 or found.iloc[0] != len(methods):
        image, target = found.idxmin()
        own = family[(family["image_id"] == image) & (family["target"] == target)]["method"]
        lacking = next(method for method in methods if method not in set(own))
        raise InputError(
            f"{where}: {metric} of {lacking} has no row for image {image} with target {target}, which other methods "
            "have; delete the scores and run again"
        )


def _check_levels(family: pd.DataFrame, metric: str, where: str) -> None:
    """Every pair and method has as many levels of a metric as the others, each once."""
    levels = family.groupby(["method", *PAIR], sort=False)["level"].nunique(dropna=False)
    if len(family) != levels.sum() or levels.nunique() != 1:
        method, image, target = levels.idxmin()
        raise InputError(
            f"{where}: image {image} with target {target} of {method} has {levels.min()} distinct levels of "
            f"{metric}, another has {levels.max()}, or levels are repeated; delete the scores and run again"
        )


def _check_values(family: pd.DataFrame, metric: str, where: str) -> None:
    """No value is infinite; a pair has all its values or none, and has them of all methods or of none."""
    values = family["value"].astype(float)
    unknown = values.isna()
    infinite = pd.Series(np.isinf(values), index=family.index)
    share = unknown.groupby([family[column] for column in PAIR]).transform("mean")
    wrong = infinite | (unknown & (share < 1))
    if wrong.any():
        method, image, target = family[["method", *PAIR]].iloc[int(wrong.to_numpy().argmax())]
        what = "infinite" if infinite.any() else "NaN, but other values of this pair are known"
        raise InputError(
            f"{where}: {metric} of {method} for image {image} with target {target} is {what}; a mean without it would "
            "favour some methods: a metric gives a miss a number, and NaN only to pictures that have no answer"
        )


def _over_levels(family: pd.DataFrame, column: Column) -> pd.DataFrame:
    """Of each pair and method, the mean over the levels that a published number is read from, or the area."""
    chosen = family if column.levels is None else family[column.levels(family["level"])]
    pairs = chosen.groupby(["method", *PAIR], sort=False)
    if column.over != "area":
        return pairs["value"].mean().reset_index().assign(metric=column.id)
    # All pairs have as many levels; groups of images of other sizes may have others.
    owners = pairs.ngroup().to_numpy()
    order = chosen.iloc[np.lexsort((chosen["level"], owners))]
    curves, levels = (order[key].to_numpy(np.float64).reshape(owners.max() + 1, -1) for key in ("value", "level"))
    found = order.iloc[:: curves.shape[1]][["method", *PAIR]].reset_index(drop=True)
    return found.assign(value=area_under(curves, levels), metric=column.id)


def load_scores(
    paths: Iterable[str | os.PathLike], known: Rows | None = None, targets: Iterable[str | os.PathLike] = ()
) -> pd.DataFrame:
    """Read ``.../<dataset>/<model>/<metric>.parquet`` files into per-pair values, as :func:`image_scores` gives.

    Args:
        paths: of scores.
        known: the rows of the run; the catalogue's by default.
        targets: ``.../<dataset>/<model>.parquet`` files, for tables that select pairs.
    """
    pairs = {(path.parent.name, path.stem): pd.read_parquet(path) for path in map(Path, targets)}
    places = [(path, path.parts[-3:-1]) for path in map(Path, paths)]
    parts = [image_scores(pd.read_parquet(path), *place, known, pairs.get(place)) for path, place in places]
    empty = pd.DataFrame(columns=[*CELL, *PAIR, "value"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def by_cell(scores: pd.DataFrame, select: str = "") -> dict[tuple[str, str, str, str], pd.Series]:
    """Per-pair values of each (dataset, model, method, metric), indexed by image id and target and sorted by it.

    Sorting makes seeded resampling independent of the order in which rows were written.

    Args:
        scores: as :func:`image_scores` gives them.
        select: flags joined by ``;``; only pairs of which all are true count.

    Raises:
        InputError: the scores do not tell a flag.
    """
    for flag in filter(None, select.split(";")):
        if flag not in scores:
            raise InputError(f"scores do not tell which pairs are {flag}; read them together with their targets")
        scores = scores[scores[flag].astype(bool)]
    # Sorted once: each cell is then a slice.
    scores = scores.sort_values([*CELL, *PAIR], kind="stable", ignore_index=True)
    values = scores.astype({"value": float}).set_index(PAIR)["value"]
    places = scores.groupby(CELL).indices.items()
    return {cell: values.iloc[rows[0] : rows[-1] + 1] for cell, rows in places}


def has_values(values: Values, cell: tuple[str, str, str, str]) -> bool:
    """Whether a cell has any value."""
    return cell in values and bool(values[cell].notna().any())


def values_of(values: Values, cell: tuple[str, str, str, str], wanted_by: str) -> pd.Series:
    """The per-pair values of one cell.

    Raises:
        InputError: there are none; the message names the cell and who wants it.
    """
    if not has_values(values, cell):
        dataset, model, method, metric = cell
        raise InputError(
            f"{wanted_by}: no scores of {method} for {metric} on {dataset} with {model}; run the rule that scores it, "
            "or take the data set, model or method into the config"
        )
    return values[cell]


def paired_differences(a: pd.Series, b: pd.Series) -> pd.Series:
    """a - b over the pairs that have both values, indexed by image id and target."""
    return (a - b).dropna()


def images_of(values: pd.Series) -> np.ndarray:
    """The image of each value: what is resampled and flipped as one."""
    return values.index.get_level_values("image_id").to_numpy()


def classes_of(values: pd.Series) -> np.ndarray:
    """The class of each value: its target."""
    return values.index.get_level_values("target").to_numpy()


def interval_of(values: pd.Series, confidence: float, resamples: int, seed: int, by_class: bool = False) -> Interval:
    """Mean over pairs, or of the classes' means, with its bootstrap interval over images."""
    classes = classes_of(values) if by_class else None
    return bootstrap_mean(values.to_numpy(), confidence, resamples, seed, images_of(values), classes)


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
    """
    known = known or Rows()
    below = [
        *_rows_below(published, guests, "guest", known),
        *_rows_below(published, control_methods, "control", known),
    ]
    table = pd.concat([published.assign(role="published"), *below], ignore_index=True)
    ours = _our_values(list(cells(table)), scores, (confidence, resamples, seed), known, missing or {})
    names = [name for name in _Ours.__dataclass_fields__ if name != "n_trainings" or _of_trainings(ours)]
    return table.assign(**{name: [getattr(one, name) for one in ours] for name in names})


def trainings_note(table: pd.DataFrame) -> str:
    """What a filled table's caption says of trainings: how many stand behind its cells; nothing of single networks."""
    if "n_trainings" not in table or not table["n_trainings"].any():
        return ""
    counts = table[table["n_trainings"] > 0].groupby("label", sort=False)["n_trainings"].max()
    most = int(counts.max())
    fewer = ", ".join(f"{label}: {count}" for label, count in counts.items() if count != most)
    what = "mean ± standard deviation (n - 1) over {} trainings" if most > 1 else "{} training"
    return f"Ours: {what.format(most)}{f' ({fewer})' if fewer else ''}; seeds differ, all else is the same."


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
        found, *base = (values[cell.select][_single_key(one, known)] for one in sides)
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


def trainings_of(sides: Sequence[Cell], values: Values, known: Rows) -> list[list[pd.Series]]:
    """Of every training that the run has of all of some cells, their per-pair values.

    Cells of one model may be of several networks (``Rows.networks``), and those of one method of several trainings of
    it; those of one number belong together, and what has a single one belongs to each.
    """
    makers = [known.stands_for(side.model, side.method) for side in sides]
    most = min((len(own) for own in makers if len(own) > 1), default=1)
    numbered = zip(*(own * most if len(own) == 1 else own[:most] for own in makers), strict=True)
    keys = [
        [_key(replace(side, model=own[0], method=own[1])) for side, own in zip(sides, each, strict=True)]
        for each in numbered
    ]
    return [[values[key] for key in each] for each in keys if all(has_values(values, key) for key in each)]


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
    scored = has_values(values, _single_key(cell, known)) and bool(cell.select or not cell.variant)
    return missing.get(str(cell), "" if scored else f"scores of {cell}")


def _key(cell: Cell) -> tuple[str, str, str, str]:
    """Where a network's values are found."""
    return cell.dataset, cell.model, cell.method, cell.metric


def _single_key(cell: Cell, known: Rows) -> tuple[str, str, str, str]:
    """Where a cell's values are found, which stands for one network and one training of a method."""
    model, method = known.stands_for(cell.model, cell.method)[0]
    return _key(replace(cell, model=model, method=method))


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


def digits(value: float, signed: bool = False) -> str:
    """Four decimals without the leading zero, as the papers print: .5550, 1.0000, -.0079."""
    text = f"{abs(value):.4f}"
    sign = "-" if value < 0 and float(text) else "+" if signed else ""
    return sign + (text[1:] if text.startswith("0") else text)


def p_text(p: float) -> str:
    """A p-value, with its sign: = .0123, < .0001."""
    return "< .0001" if _is_tiny(p) else f"= {digits(p)}"


def _is_tiny(value: float) -> bool:
    """Whether four decimals would say that a positive number is zero."""
    return 0 < value < 0.00005


def to_markdown(table: pd.DataFrame, caption: str = "", rows: Sequence[str] = ("method",)) -> str:
    """A filled table: ``rows`` are what its rows are, all else that varies is columns, published | ours.

    Marks are ``**best of the column**`` and ``<u>better than the method that it refines</u>``: as printed for the
    published values, by the numbers for ours. Beside ours stands its interval, with a decimal less.
    """
    layout = lay_out(table, rows)
    head = ["Method"]
    for column in layout.columns:
        head += [f"{', '.join(filter(None, column))}: published", "ours"]
    lines = [[name, *map(_mark_markdown, line)] for name, line in layout.rows]
    return _pipe(head, lines, caption)


def to_latex(table: pd.DataFrame, caption: str = "", rows: Sequence[str] = ("method",)) -> str:
    """The same as :func:`to_markdown`, for LaTeX with booktabs."""
    layout = lay_out(table, rows)
    count = len(layout.columns)
    lines = [rf"\begin{{tabular}}{{l{'rr' * count}}}", r"\toprule", *_latex_heads(layout.columns)]
    lines += [" & " + " & ".join(["published & ours"] * count) + r" \\", r"\midrule"]
    for name, line in layout.rows:
        lines.append(" & ".join([_escape(name), *map(_mark_latex, line)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption:
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(caption)}}}", *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_heads(columns: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The lines of the heads, but for levels that say nothing."""
    for level in range(len(columns[0])):
        heads = [column[: level + 1] for column in columns]
        if any(head[-1] for head in heads):
            yield from _spans(heads)


def _spans(keys: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    """Heads over runs of equal keys, and the rules under them; the first column holds the methods."""
    heads, rules, start = [], [], 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            heads.append(rf"\multicolumn{{{2 * (stop - start)}}}{{c}}{{{_escape(keys[start][-1])}}}")
            rules.append(rf"\cmidrule(lr){{{2 + 2 * start}-{1 + 2 * stop}}}")
            start = stop
    return " & " + " & ".join(heads) + r" \\", "".join(rules)


def frame_to_markdown(frame: pd.DataFrame, caption: str = "") -> str:
    """Any tidy frame as Markdown: numbers as the papers print them, NaN as nothing, and no positive number as zero."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else "< .0001" if _is_tiny(value) else digits(value)
        return str(value)

    lines = [[text(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return _pipe([str(column) for column in frame.columns], lines, caption)


def write_table(
    table: pd.DataFrame, path: str | os.PathLike, caption: str = "", rows: Sequence[str] = ("method",)
) -> None:
    """Write a filled table to ``path`` (.csv), and as Markdown and LaTeX beside it."""
    texts = {".md": to_markdown(table, caption, rows), ".tex": to_latex(table, caption, rows), ".csv": _csv(table)}
    _write_texts(Path(path), texts)


def write_frame(frame: pd.DataFrame, path: str | os.PathLike, caption: str = "") -> None:
    """Write a tidy frame (controls, claims, ...) to ``path`` (.csv), and as Markdown beside it."""
    _write_texts(Path(path), {".md": frame_to_markdown(frame, caption), ".csv": _csv(frame)})


# Where a table's rows and columns get their names from.
_NAMES = {
    "dataset": "dataset_label",
    "model": "model_label",
    "method": "label",
    "metric": "head",
    "variant": "variant_label",
}


@dataclass(frozen=True)
class Layout:
    """A table as it is shown, whatever the format.

    Attributes:
        columns: heads of each column: data set, model, metric, variant; empty where they are rows.
        rows: label, and by turns the published and our cell of each column.
        controls: how many of the last rows are controls.
    """

    columns: list[tuple[str, ...]]
    rows: list[tuple[str, list[Shown]]]
    controls: int


def lay_out(table: pd.DataFrame, rows: Sequence[str] = ("method",)) -> Layout:
    """Lay a filled table out; cells are found by all five of their keys, so that none is lost.

    Args:
        table: as :func:`fill` gives it.
        rows: which of dataset, model, method, metric and variant a row is; all others are columns.

    Raises:
        InputError: two cells have one place.
    """
    across = [key for key in PRINTED if key not in rows]
    records = table.to_dict("records")
    places = _places(records, rows, across)
    lines = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    best = {column: _best([r for (_, at), r in places.items() if at == column]) for column in columns}
    first = {row: r for (row, _), r in reversed(places.items())}
    shown = []
    for row in lines:
        pairs = [_pair(places.get((row, column)), best[column], records) for column in columns]
        shown.append((_row_name(first[row], rows), [cell for pair in pairs for cell in pair]))
    heads = {column: _heads(r, across) for (_, column), r in places.items()}
    return Layout([heads[column] for column in columns], shown, sum(first[row]["role"] == "control" for row in lines))


def _places(
    records: Sequence[Mapping[str, Any]], rows: Sequence[str], across: Sequence[str]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Mapping[str, Any]]:
    """Row and column, by their keys, -> the cell there; refuses two cells in one place."""
    places = {(tuple(r[key] for key in rows), tuple(r[key] for key in across)): r for r in records}
    if len(places) < len(records):
        raise InputError(f"table {records[0]['paper']} {records[0]['table']}: two cells have one place in the layout")
    return places


def _pair(record: Mapping[str, Any] | None, best: str, records: Sequence[Mapping[str, Any]]) -> tuple[Shown, Shown]:
    """The published and our cell of one place."""
    return (_BLANK, _BLANK) if record is None else (_printed_cell(record), _our_cell(record, best, records))


def _printed_cell(record: Mapping[str, Any]) -> Shown:
    emphasis = record["emphasis"].split("+")
    dash = "–" if not record["value"] and "printed as a dash" in record["note"] else ""
    text = (record["value"] or dash) + (f" ± {record['std']}" if record["std"] else "")
    text = text.removeprefix("0") if text.startswith("0.") and record["digits"] == 4 else text
    return Shown(text, "bold" in emphasis, "underline" in emphasis)


def _our_cell(record: Mapping[str, Any], best: str, records: Sequence[Mapping[str, Any]]) -> Shown:
    """Ours: bold as the best of its column, underlined where it improves on the method that it refines."""
    if np.isnan(record["reproduced"]):
        return _BLANK
    ours = _ours(record)
    gain = (record["reproduced"] - _refined(record, records)) * (-1 if record["higher_is_better"] == "false" else 1)
    return Shown(ours, record["role"] == "published" and ours == best, bool(gain > 0), _interval(record))


def _refined(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> float:
    """Our value of the method that a cell's method refines, in the same place; NaN where there is none."""
    if not record["wraps"]:
        return np.nan
    return next((r["reproduced"] for r in records if _same_but_method(r, record, record["wraps"])), np.nan)


def _row_name(record: Mapping[str, Any], rows: Sequence[str]) -> str:
    return ", ".join(filter(None, (record[_NAMES[key]] for key in rows)))


def _heads(record: Mapping[str, Any], across: Sequence[str]) -> tuple[str, ...]:
    return tuple(record[_NAMES[key]] for key in across)


def _ours(record: Mapping[str, Any]) -> str:
    """Our value at the table's own scale and digits, with its spread where the table prints one."""
    value, places = record["reproduced"] * record["scale"], record["digits"]
    text = digits(value) if places == 4 else f"{value:.{places}f}"
    several = record.get("n_trainings", 0) > 1
    spread = several or (record["spread"] == "pairs" and record["std"])
    return f"{text} ± {record['reproduced_std'] * record['scale']:.{places}f}" if spread else text


def _interval(record: Mapping[str, Any]) -> str:
    """The interval of our value at the table's own scale, with a decimal less than the value: it is no surer."""
    limits = [record[name] * record["scale"] for name in ("ci_low", "ci_high")]
    if np.isnan(limits).any():
        return ""
    places = max(record["digits"] - 1, 0)
    texts = [f"{limit:.{places}f}" for limit in limits]
    if record["digits"] == 4:
        texts = [text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text for text in texts]
    return f"[{', '.join(texts)}]"


def _best(column: Sequence[Mapping[str, Any]]) -> str:
    known = [r for r in column if r["role"] == "published" and not np.isnan(r["reproduced"]) and r["higher_is_better"]]
    if not known:
        return ""
    choose = min if known[0]["higher_is_better"] == "false" else max
    return _ours(choose(known, key=lambda r: r["reproduced"]))


def _same_but_method(record: Mapping[str, Any], other: Mapping[str, Any], method: str | None) -> bool:
    return record["method"] == method and all(record[key] == other[key] for key in PRINTED if key != "method")


def _mark_markdown(cell: Shown) -> str:
    text = f"<u>{cell.text}</u>" if cell.underlined and cell.text else cell.text
    text = f"**{text}**" if cell.bold and text else text
    return f"{text} {cell.interval}" if cell.interval else text


def _mark_latex(cell: Shown) -> str:
    text = rf"\underline{{{cell.text}}}" if cell.underlined and cell.text else cell.text
    text = rf"\textbf{{{text}}}" if cell.bold and text else text
    return rf"{text} {{\scriptsize {cell.interval}}}" if cell.interval else text


def _escape(text: str) -> str:
    return "".join("\\" + c if c in "&%$#_{}" else c for c in text)


def _pipe(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    rows = [head, ["---"] * len(head), *lines]
    body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    return (f"{caption}\n\n" if caption else "") + body + "\n"


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _write_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Files of one table, by suffix: all of them, or none."""
    with atomic_paths(*(path.with_suffix(suffix) for suffix in texts)) as temporaries:
        for temporary, text in zip(temporaries, texts.values(), strict=True):
            temporary.write_text(text, encoding="utf-8")
