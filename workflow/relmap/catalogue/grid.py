"""From the cells of papers to what a run makes: which maps and which scores, and why a cell stays empty. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relmap.catalogue.metrics import MODEL
from relmap.catalogue.papers import Cell, Paper, cells, published
from relmap.catalogue.rows import Rows

Pair = tuple[str, str]


@dataclass(frozen=True)
class Plan:
    """What a run makes.

    Attributes:
        methods: (data set, model) -> methods to make maps of, in the order in which they were asked for.
        scores: (data set, model, metric) -> methods to score.
        by_paper: paper -> the keys of ``scores`` that its tables and claims are read from.
        missing: cell -> the first ingredient that this run lacks for it.
        cells: how many cells were asked for.
    """

    methods: Mapping[Pair, tuple[str, ...]]
    scores: Mapping[tuple[str, str, str], tuple[str, ...]]
    by_paper: Mapping[str, tuple[tuple[str, str, str], ...]]
    missing: Mapping[Cell, str]
    cells: int

    @property
    def pairs(self) -> list[Pair]:
        """Pairs of data set and model that have maps, sorted."""
        return sorted(self.methods)


def make_plan(
    papers: Sequence[Paper],
    rows: Rows,
    datasets: Sequence[str],
    models: Sequence[str],
    claimed: Mapping[str, Sequence[Cell]] | None = None,
) -> Plan:
    """What the cells of some papers, their controls and their files' own wishes ask of a run.

    Args:
        papers: those of the run.
        rows: the run's rows.
        datasets, models: ids that the config has.
        claimed: paper -> the cells that its claims compare.
    """
    methods: dict[Pair, dict[str, None]] = {}
    scores: dict[tuple[str, str, str], dict[str, None]] = {}
    missing: dict[Cell, str] = {}
    by_paper: dict[str, tuple[tuple[str, str, str], ...]] = {}
    count = 0

    def ask(dataset: str, model: str, metric: str, method: str) -> None:
        methods.setdefault((dataset, model), {})[method] = None
        scores.setdefault((dataset, model, metric), {})[method] = None

    known = rows.columns()
    for paper in papers:
        places: dict[tuple[str, str, str], None] = {}
        for number in paper.tables:
            for cell in cells(published(paper, number, rows)):
                count += 1
                lacking = first_lacking(cell, rows, datasets, models)
                if lacking:
                    missing[cell] = lacking
                    continue
                metric = known[cell.metric][0].id
                ask(cell.dataset, cell.model, metric, cell.method)
                places[(cell.dataset, cell.model, metric)] = None
        for cell in (claimed or {}).get(paper.id, ()):
            if not first_lacking(cell, rows, datasets, models):
                metric = known[cell.metric][0].id
                ask(cell.dataset, cell.model, metric, cell.method)
                places[(cell.dataset, cell.model, metric)] = None
        by_paper[paper.id] = tuple(places)
        for dataset, model, metric in places:
            beside = [method for *place, method in rows.wanted if tuple(place) == (dataset, model)]
            for method in (*paper.controls, *beside):
                ask(dataset, model, metric, method)
    for dataset, model, method in rows.wanted:
        if dataset in datasets and model in models:
            methods.setdefault((dataset, model), {})[method] = None
    return Plan(
        {pair: tuple(found) for pair, found in methods.items()},
        {key: tuple(found) for key, found in scores.items()},
        by_paper,
        missing,
        count,
    )


def first_lacking(cell: Cell, rows: Rows, datasets: Iterable[str], models: Iterable[str]) -> str:
    """The first ingredient of a cell that a run lacks, in words, or nothing.

    Looked for in this order: data set, model, method, its place, metric, annotation, variant.
    """
    if cell.dataset not in datasets:
        return _named("data set", cell.dataset, rows.datasets, "reader")
    if cell.model not in models:
        return _named("model", cell.model, rows.models, "maker")
    if cell.method not in rows.methods:
        return f"method {cell.method}"
    places = rows.methods[cell.method].places
    if places is None and rows.methods[cell.method].arm:
        return f"trained layers of {cell.method}"
    if places is not None and (cell.dataset, cell.model) not in places:
        return f"{cell.method} on {cell.dataset} with {cell.model}"
    known = rows.columns()
    if cell.metric not in known:
        return f"metric {cell.metric}"
    has = (*rows.datasets[cell.dataset].has, MODEL)
    for need in known[cell.metric][0].needs:
        if need not in has:
            return f"{need} of {cell.dataset}"
    return f"variant {cell.variant}" if cell.variant else ""


def _named(kind: str, identifier: str, known: Mapping[str, Any], maker: str) -> str:
    """Whether relmap has it at all, or only this run's config lacks it."""
    has = identifier in known and getattr(known[identifier], maker) is not None
    return f"{kind} {identifier}{' in the config' if has else ''}"
