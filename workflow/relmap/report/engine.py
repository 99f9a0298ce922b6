"""The engine's part of the page: what each method costs, and where its relevance leaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relmap.catalogue.rows import Rows
from relmap.evidence.status import read_table
from relmap.report import reading

KINDS_SHOWN = 3
_COSTS = {
    "forward_equivalents": ("1 target", "{:.1f}"),
    "forward_equivalents_3": ("3 targets", "{:.1f}"),
    "seconds_per_image": ("ms / image", "{:.1f}"),
    "forwards": ("time / forward", "{:.1f}"),
    "peak_memory": ("memory", "{:.1f}"),
    "derived_weights_mb": ("weights, MB", "{:.1f}"),
}


@dataclass(frozen=True)
class Entry:
    """A cell: its text, small text below it, and the number that it is sorted by where the text does not begin so."""

    text: str = ""
    below: str = ""
    key: float | None = None


@dataclass(frozen=True)
class Lines:
    """A table with a line a method.

    Attributes:
        groups: heads that span columns, with how many.
        heads: of the columns.
        rows: method's label and a cell per column.
    """

    groups: list[tuple[str, int]]
    heads: list[str]
    rows: list[tuple[str, list[Entry]]]


def costs(results: Path, label: reading.Label) -> Lines | None:
    """``tables/cost.csv``: columns by network; None when it is absent.

    Raises:
        InputError: a column is absent.
    """
    frame = _read(results / "tables" / "cost.csv", ["model", "method", *_COSTS])
    if frame is None:
        return None
    frame["seconds_per_image"] *= 1000
    models = list(dict.fromkeys(frame["model"]))
    values = frame.set_index(["method", "model"])
    rows = [
        (label(method), [cost for model in models for cost in _costs(values, method, model)])
        for method in dict.fromkeys(frame["method"])
    ]
    return Lines(
        [(label(model), len(_COSTS)) for model in models],
        [head for _ in models for head, _ in _COSTS.values()],
        rows,
    )


def _costs(values: pd.DataFrame, method: str, model: str) -> list[Entry]:
    """A method's costs on one network; empty cells where it was not measured."""
    if (method, model) not in values.index:
        return [Entry()] * len(_COSTS)
    return [Entry(form.format(values.loc[(method, model), name])) for name, (_, form) in _COSTS.items()]


def leaks(results: Path, label: reading.Label) -> Lines | None:
    """``tables/conservation_summary.csv``: what is lost in all, and the kinds of operation that leak most.

    Raises:
        InputError: a column is absent.
    """
    cells = leaks_of(results)
    if not cells:
        return None
    places = list(dict.fromkeys((dataset, model) for dataset, model, _ in cells))
    methods = dict.fromkeys(method for *_, method in cells)
    rows = [(label(method), [cells.get((*place, method), Entry()) for place in places]) for method in methods]
    datasets = [dataset for dataset, _ in places]
    groups = [(label(dataset), datasets.count(dataset)) for dataset in dict.fromkeys(datasets)]
    return Lines(groups, [label(model) for _, model in places], rows)


def leaks_of(results: Path) -> dict[tuple[str, str, str], Entry]:
    """The same by data set, model and method; {} where the table is absent.

    Raises:
        InputError: a column is absent.
    """
    columns = ["dataset", "model", "method", "kind", "leak_of_start", "gross_of_start"]
    frame = _read(results / "tables" / "conservation_summary.csv", columns)
    if frame is None:
        return {}
    return {key: _leak(rows) for key, rows in frame.groupby(["dataset", "model", "method"], sort=False)}


def galleries(folder: Path, rows: Rows) -> list[dict[str, Any]]:
    """The figures ``gallery_<dataset>_<model>`` that are there, in the tables' order; unknown ids come last."""
    known = [f"gallery_{dataset}_{model}" for dataset in rows.datasets for model in rows.models]
    found = {path.stem for path in folder.glob("gallery_*.png")}
    names = [*(name for name in known if name in found), *sorted(found.difference(known))]
    return [{"name": name, **reading.read_figure(folder, name, rows.label)} for name in names]


def _leak(rows: pd.DataFrame) -> Entry:
    """Leak in all relative to the start, and the shares of the worst kinds where anything leaks."""
    gross = rows.groupby("kind")["gross_of_start"].sum().sort_values(ascending=False, kind="stable")
    total = gross.sum()
    if total < 1e-3:
        return Entry("0 %", "conserved", 0.0)
    shares = (gross / total).head(KINDS_SHOWN)
    words = [f"{kind.replace('_', ' ')} {100 * share:.0f}" for kind, share in shares.items() if share >= 0.005]
    leak = float(rows["leak_of_start"].sum())
    return Entry(_percent(leak), ", ".join(words), leak)


def _percent(share: float) -> str:
    """In percent; what is ten times as large or more as a multiple."""
    if abs(share) < 10:
        text = f"{100 * share:.1f} %"
    else:
        text = f"{share:.0f}" if abs(share) < 1e5 else f"{share:.0e}"
        text += " \N{MULTIPLICATION SIGN}"
    return text.replace("-", "\N{MINUS SIGN}")


def _read(path: Path, columns: list[str]) -> pd.DataFrame | None:
    frame = read_table(path, columns)
    if frame is None:
        return None
    words = {"dataset", "model", "method", "kind"}
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in columns if name not in words})
