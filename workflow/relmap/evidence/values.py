"""Score rows, one per image, method, metric and level, as per-pair values of the published metrics, by cell."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from relmap.catalogue.metrics import Column
from relmap.catalogue.papers import FLAGS, Cell
from relmap.catalogue.rows import Rows
from relmap.errors import InputError
from relmap.evidence.statistics import (
    Interval,
    area_under,
    bootstrap_mean,
)
from relmap.job.parquet import read_parquet

CELL = ["dataset", "model", "method", "metric"]

# What has a value: a pair of an image and the class that is explained.
PAIR = ["image_id", "target"]

Values = Mapping[tuple[str, str, str, str], pd.Series]


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
    if rows.empty:
        # A metric of rightly classified pictures has no row where there is none. Its cells then lack a value.
        scores = rows.assign(dataset=dataset, model=model)[[*CELL, *PAIR, "value"]]
        return scores if pairs is None else _with_flags(scores, pairs, where)
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
    pairs = {(path.parent.name, path.stem): read_parquet(path) for path in map(Path, targets)}
    places = [(path, path.parts[-3:-1]) for path in map(Path, paths)]
    parts = [image_scores(read_parquet(path), *place, known, pairs.get(place)) for path, place in places]
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


def trainings_of(sides: Sequence[Cell], values: Values, known: Rows) -> list[list[pd.Series]]:
    """Of every training that the run has of all of some cells, their per-pair values.

    Cells of one model may be of several networks (``Rows.networks``), and those of one method of several trainings of
    it; those of one number belong together, and what has a single one belongs to each.
    """
    makers = [known.stands_for(side.model, side.method) for side in sides]
    most = min((len(own) for own in makers if len(own) > 1), default=1)
    numbered = zip(*(own * most if len(own) == 1 else own[:most] for own in makers), strict=True)
    keys = [
        [key_of(replace(side, model=own[0], method=own[1])) for side, own in zip(sides, each, strict=True)]
        for each in numbered
    ]
    return [[values[key] for key in each] for each in keys if all(has_values(values, key) for key in each)]


def key_of(cell: Cell) -> tuple[str, str, str, str]:
    """Where a network's values are found."""
    return cell.dataset, cell.model, cell.method, cell.metric


def single_key_of(cell: Cell, known: Rows) -> tuple[str, str, str, str]:
    """Where a cell's values are found, which stands for one network and one training of a method."""
    model, method = known.stands_for(cell.model, cell.method)[0]
    return key_of(replace(cell, model=model, method=method))
