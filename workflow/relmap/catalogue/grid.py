"""From the cells of papers to what a run makes: which maps and which scores, and why a cell stays empty. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from relmap.catalogue.metrics import ANEW, ARTIFACTS, MODEL, Metric
from relmap.catalogue.papers import Cell, Paper, cells, published
from relmap.catalogue.rows import Rows
from relmap.errors import InputError

Pair = tuple[str, str]
# Of scores: data set, model and metric.
Place = tuple[str, str, str]
Key = TypeVar("Key", Pair, Place)


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
    scores: Mapping[Place, tuple[str, ...]]
    by_paper: Mapping[str, tuple[Place, ...]]
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
    guests: Sequence[str] = (),
) -> Plan:
    """What the cells of some papers, their controls and their files' own wishes ask of a run.

    Args:
        papers: those of the run, with the cells of their tables and figures.
        rows: the run's rows.
        datasets, models: ids that the config has.
        claimed: paper -> the cells that its claims compare.
        guests: methods that the config sets beside every paper's own.
    """
    columns = rows.columns()
    asked: list[tuple[Place, str]] = []
    missing: dict[Cell, str] = {}
    by_paper: dict[str, tuple[Place, ...]] = {}
    count = 0
    for paper in papers:
        printed = [cell for number in paper.tables for cell in cells(published(paper, number, rows))]
        both = (*printed, *paper.measured, *(claimed or {}).get(paper.id, ()))
        known = replace(rows, networks=paper.networks)
        lacking = {cell: first_lacking(cell, known, datasets, models) for cell in both}
        count += len(printed)
        missing |= {cell: lacking[cell] for cell in printed if lacking[cell]}
        own = [
            ((c.dataset, network, columns[c.metric][0].id), method)
            for c in both
            if not lacking[c]
            for network, method in known.stands_for(c.model, c.method)
            if network in models and not _lacking_map(replace(c, model=network, method=method), rows)
        ]
        by_paper[paper.id] = tuple(dict.fromkeys(place for place, _ in own))
        named = {cell.model for cell in both}
        asked += [*own, *_beside(by_paper[paper.id], (*guests, *paper.controls), known, named)]
    maps = [(place[:2], method) for place, method in asked]
    maps += [((data, model), method) for data, model, method in rows.wanted if data in datasets and model in models]
    asked += _always(maps, rows)
    return Plan(_grouped(maps), _grouped(asked), by_paper, missing, count)


def _always(maps: Iterable[tuple[Pair, str]], rows: Rows) -> Iterator[tuple[Place, str]]:
    """What is scored of maps whether a paper prints it or not; of a model with several trainings, of the first."""
    always = [metric for metric in rows.metrics.values() if metric.always]
    for (dataset, model), method in maps:
        for metric in always:
            if not rows.models[model].number and not _lacks(metric, dataset, method, rows):
                yield (dataset, model, metric.id), method


def _beside(
    places: Iterable[Place], methods: Sequence[str], rows: Rows, named: Collection[str]
) -> Iterator[tuple[Place, str]]:
    """Guests, controls, and the methods that the run's files want of a pair, wherever the paper has scores.

    Not on networks that only stand in for the table's under one method, and are ``named`` by no cell: no other method's
    cell is read from them.
    """
    stand_ins = {own for models in rows.networks.values() for own in models.values()} - {*named}
    special = {one for own in stand_ins for one in rows.trainings(own)}
    for place in places:
        if place[1] in special:
            continue
        wanted = [method for *pair, method in rows.wanted if tuple(pair) == place[:2]]
        for method in (*methods, *wanted):
            lacking = _lacking_map(Cell(*place[:2], method, ""), rows)
            if lacking == f"method {method}":
                raise InputError(f"{lacking} is no row's; correct `methods` of the config, or `controls` of a paper")
            if not lacking and not _lacks(rows.metrics[place[2]], place[0], method, rows):
                yield place, method


def _grouped(asked: Iterable[tuple[Key, str]]) -> dict[Key, tuple[str, ...]]:
    """The methods asked for under each key, each once, in the order of asking."""
    found: dict[Key, dict[str, None]] = {}
    for key, method in asked:
        found.setdefault(key, {})[method] = None
    return {key: tuple(methods) for key, methods in found.items()}


def first_lacking(cell: Cell, rows: Rows, datasets: Iterable[str], models: Iterable[str]) -> str:
    """The first ingredient of a cell that a run lacks, in words, or nothing.

    Looked for in this order: data set, model, method, its place, metric, annotation, variant.
    """
    if cell.dataset not in datasets:
        return _named("data set", cell.dataset, rows.datasets, "reader")
    networks = rows.trainings(cell.model, cell.method)
    here = next((network for network in networks if network in models), None)
    if here is None:
        named = rows.networks.get(cell.method, {}).get(cell.model, cell.model)
        return _named("model", named, rows.models, "maker")
    unknown = f"variant {cell.variant}" if cell.variant and not cell.select else ""
    return _lacking_map(replace(cell, model=here), rows) or _lacking_score(cell, rows) or unknown


def _lacking_map(cell: Cell, rows: Rows) -> str:
    """What a map by the cell's method lacks, in words: the method, its artifacts or its place."""
    if cell.method not in rows.methods:
        return f"method {cell.method}"
    places = rows.methods[cell.method].places
    if places is None:
        return f"artifacts of {cell.method}" if rows.methods[cell.method].arm else ""
    known = (cell.dataset, cell.model) in places
    return "" if known else f"{cell.method} on {cell.dataset} with {cell.model}"


def _lacking_score(cell: Cell, rows: Rows) -> str:
    """What the cell's metric lacks, in words: itself or an annotation."""
    known = rows.columns()
    if cell.metric not in known:
        return f"metric {cell.metric}"
    absent = _lacks(known[cell.metric][0], cell.dataset, cell.method, rows)
    return f"{absent} of {cell.method if absent == ANEW else cell.dataset}" if absent else ""


def _lacks(metric: Metric, dataset: str, method: str, rows: Rows) -> str:
    """The first need of a metric that a data set with a method's maps does not meet, or nothing."""
    has = {*rows.datasets[dataset].has, MODEL, ARTIFACTS, *(() if rows.methods[method].arm else (ANEW,))}
    return next((need for need in metric.needs if need not in has), "")


def _named(kind: str, identifier: str, known: Mapping[str, Any], maker: str) -> str:
    """Whether relmap has it at all, or only this run's config lacks it."""
    has = identifier in known and getattr(known[identifier], maker) is not None
    return f"{kind} {identifier}{' in the config' if has else ''}"
