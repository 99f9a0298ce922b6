"""Metrics as rows: what a metric needs, and how published numbers are read from the rows that it gives. No torch.

Adding a metric is one file with its ``score`` function and one row here, or in a Python file that the config names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relmap.catalogue.imported import imported
from relmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

    Score = Callable[[Case, str, Maps], pd.DataFrame]

# What a metric may need beside maps. A data set says in its row which annotations it has.
BOXES, MASKS, MODEL = "boxes", "masks", "model"


@dataclass(frozen=True)
class Column:
    """A published number: the mean over pairs of score rows of one name, at some levels.

    Attributes:
        id, label, citation: its name in papers and tables, its name for readers, its definition.
        rows: name of the score rows (their column ``metric``) that it is read from.
        levels: which of their levels count: all, or those where this is true of the levels of a pair.
        head: its name at the head of a column; empty where the table has no other.
        unit: of the printed number, "" or "%".
        scale: printed number over ours.
        digits: decimals.
        higher_is_better: its direction.
        mean: over what: ``pairs``, or ``classes``, the mean of the classes' means, as the pointing game has it.
        spread: what is printed after a plus-minus sign: ``pairs``, the standard deviation over pairs, or nothing.
    """

    id: str
    label: str
    citation: str
    rows: str
    levels: Callable[[pd.Series], pd.Series] | None = None
    head: str = ""
    unit: str = ""
    scale: float = 1
    digits: int = 4
    higher_is_better: bool = True
    mean: str = "pairs"
    spread: str = ""


@dataclass(frozen=True)
class Metric:
    """What one job scores.

    Attributes:
        id: its name in rules and files.
        label: its name for readers.
        score: ``module:function`` below ``relmap.metrics``, ``file.py:function``, or the function itself:
            (case, method, maps) -> score rows, as ``case.tidy`` makes them.
        columns: the published numbers that are read from its rows.
        needs: of ``BOXES``, ``MASKS``, ``MODEL``.
        settings: keys below the config's ``evaluation`` (or its ``own``) that it reads.
    """

    id: str
    label: str
    score: str | Score
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def score_of(score: str | Score) -> Score:
    """The function that scores, imported."""
    return imported(score, "relmap.metrics")


def _lower_half(levels: pd.Series) -> pd.Series:
    # Told apart with a margin: levels are multiples of 1/20 in floating point.
    return levels <= 0.5 + 1e-6


def _upper_half(levels: pd.Series) -> pd.Series:
    return levels > 0.5 + 1e-6


def _last(levels: pd.Series) -> pd.Series:
    return levels == levels.max()


METRICS: dict[str, Metric] = {
    metric.id: metric
    for metric in (
        Metric(
            "pointing",
            "Extended pointing game",
            "pointing:score",
            (
                Column("pointing_energy_mean", "Pointing accuracy, mean over energies", "CLAM, Eq. 6", "pointing"),
                Column(
                    "pointing_lower",
                    "Pointing accuracy, energies up to 0.5",
                    "CLAM, Eq. 6",
                    "pointing",
                    _lower_half,
                    "lower",
                ),
                Column(
                    "pointing_higher",
                    "Pointing accuracy, energies above 0.5",
                    "CLAM, Eq. 6",
                    "pointing",
                    _upper_half,
                    "higher",
                ),
            ),
            (BOXES,),
            ("energies",),
        ),
        Metric(
            "lerf",
            "Least relevant pixels first",
            "lerf:score",
            (
                Column(
                    "lerf_last_accuracy",
                    "Accuracy after the last perturbation, least relevant first",
                    "CLAM, Table 2",
                    "lerf_correct",
                    _last,
                    "last",
                ),
                Column(
                    "lerf_mean_accuracy",
                    "Accuracy over all perturbations, least relevant first",
                    "CLAM, Table 2",
                    "lerf_correct",
                    head="mean",
                ),
            ),
            (MODEL,),
            ("lerf",),
        ),
        Metric(
            "segmentation",
            "IoU with the segmentation",
            "segmentation:score",
            (Column("mean_iou", "IoU of the map above mean plus standard deviation", "CLAM, A.5", "iou"),),
            (MASKS,),
        ),
    )
}


def columns(metrics: Mapping[str, Metric] = METRICS) -> dict[str, tuple[Metric, Column]]:
    """Id of a published number -> the metric that scores it, and how it is read.

    Raises:
        InputError: two metrics give one id, or one name to different rows.
    """
    found: dict[str, tuple[Metric, Column]] = {}
    names: dict[str, str] = {}
    for metric in metrics.values():
        for column in metric.columns:
            if column.id in found:
                raise InputError(f"metrics {found[column.id][0].id} and {metric.id} both give {column.id}; rename one")
            if names.setdefault(column.rows, metric.id) != metric.id:
                raise InputError(f"metrics {names[column.rows]} and {metric.id} both name rows {column.rows}")
            found[column.id] = (metric, column)
    return found


def metric_settings(metric: Metric, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a metric reads, from the config's ``evaluation``, or ``evaluation.own`` for a user's metric.

    Raises:
        InputError: one is absent.
    """
    given = {**evaluation.get("own", {}), **evaluation}
    for key in metric.settings:
        if key not in given:
            raise InputError(f"config: `evaluation.own.{key}` is what metric {metric.id} reads; give it a value")
    return {key: given[key] for key in metric.settings}
