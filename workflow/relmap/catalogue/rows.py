"""Everything that a run knows by name: the catalogue's rows, and those of the Python files that its config names.

Such a file, ``papers/<id>/rows.py`` or a user's own, may define ``METHODS``, ``METRICS``, ``DATASETS`` and ``MODELS``,
each a sequence of rows; ``methods(config)``, rows that follow from the config; ``places(config)``, for ids of methods
the pairs of data set and model that they can be made for; ``wanted(config)``, the (data set, model, method) triples
that its own rules need maps of beside the published cells'; and ``check(config)``, which refuses a wrong config.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relmap.catalogue.datasets import DATASETS, FORMATS, DataSet
from relmap.catalogue.imported import from_file
from relmap.catalogue.methods import CATALOGUE, Method
from relmap.catalogue.metrics import METRICS, Column, Metric, columns
from relmap.catalogue.models import MODELS, Model, with_trainings
from relmap.errors import InputError, suggestion

_KINDS = {"METHODS": Method, "METRICS": Metric, "DATASETS": DataSet, "MODELS": Model}
# Of each kind, the field that names what makes it.
_MAKERS = {"METHODS": "maker", "METRICS": "score", "DATASETS": "reader", "MODELS": "maker"}


@dataclass(frozen=True)
class Rows:
    """The rows of a run, by id.

    Attributes:
        methods, metrics, datasets, models: the rows.
        wanted: the triples (data set, model, method) that its files ask for by themselves.
        networks: method -> model -> the model that stands in its place under that method. A paper says so of methods
            that have networks of their own (``Paper.networks``).
    """

    methods: Mapping[str, Method] = field(default_factory=lambda: CATALOGUE)
    metrics: Mapping[str, Metric] = field(default_factory=lambda: METRICS)
    datasets: Mapping[str, DataSet] = field(default_factory=lambda: DATASETS)
    models: Mapping[str, Model] = field(default_factory=lambda: MODELS)
    wanted: tuple[tuple[str, str, str], ...] = ()
    networks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def trainings(self, model: str, method: str = "") -> tuple[str, ...]:
        """The networks that a model's name stands for under a method, in their order: its trainings, or itself."""
        model = self.networks.get(method, {}).get(model, model)
        return tuple(row.id for row in self.models.values() if row.training_of == model) or (model,)

    def stands_for(self, model: str, method: str) -> tuple[tuple[str, str], ...]:
        """The networks and methods whose maps a cell of a model and a method is the mean of, training by training.

        Those of one number belong together; what has one training belongs to each.
        """
        networks = self.trainings(model, method)
        methods = (method, *(row.id for row in self.methods.values() if row.training_of == method))
        counts = {len(side) for side in (networks, methods) if len(side) > 1}
        most = min(counts, default=1)
        return tuple(zip(*(side[:most] if len(side) > 1 else side * most for side in (networks, methods)), strict=True))

    def with_methods(self, rows: Iterable[Mapping[str, Any]]) -> Rows:
        """These and some further methods, as ``Method.to_dict`` has them: those of a job that follow from a config."""
        further = {row["id"]: Method.from_dict(row) for row in rows}
        return replace(self, methods={**self.methods, **further})

    def columns(self) -> dict[str, tuple[Metric, Column]]:
        """Id of a published number -> its metric, and how it is read from that one's rows."""
        return columns(self.metrics)

    def label(self, identifier: str) -> str:
        """The label of a method, data set, model or published number; of an unknown id, the id itself."""
        for kind in (self.methods, self.datasets, self.models):
            if identifier in kind:
                return kind[identifier].label
        known = self.columns()
        return known[identifier][1].label if identifier in known else identifier


def load_rows(
    files: Iterable[str | os.PathLike] = (), config: Mapping[str, Any] | None = None, *, checked: bool = True
) -> Rows:
    """The catalogue, and what some Python files add to it.

    Args:
        files: in their order.
        config: the run's; without it, rows that follow from a config are left out.
        checked: whether the files may refuse the config.

    Raises:
        InputError: a file is absent or fails, holds something else than rows, or a row has the id of another.
    """
    found: dict[str, dict[str, Any]] = {
        "METHODS": dict(CATALOGUE),
        "METRICS": dict(METRICS),
        "DATASETS": dict(DATASETS),
        "MODELS": dict(MODELS),
    }
    wanted: list[tuple[str, str, str]] = []
    for path in files:
        module = from_file(path)
        for kind in _KINDS:
            rows = getattr(module, kind, ())
            own = list(with_trainings(rows)) if kind == "MODELS" and _are_models(rows) else rows
            _add(found[kind], own, kind, path)
        if config is not None:
            if checked:
                getattr(module, "check", lambda config: None)(config)
            _add(found["METHODS"], getattr(module, "methods", lambda config: ())(config), "METHODS", path)
            for method, places in getattr(module, "places", lambda config: {})(config).items():
                if method not in found["METHODS"]:
                    like = suggestion(method, found["METHODS"])
                    raise InputError(f"{path}: places() names the method {method!r}, which no row has{like}")
                found["METHODS"][method] = replace(found["METHODS"][method], places=tuple(places))
            wanted += getattr(module, "wanted", lambda config: ())(config)
    unknown = next((method for *_, method in wanted if method not in found["METHODS"]), None)
    if unknown:
        raise InputError(
            f"{path}: wanted() names the method {unknown!r}, which no row has{suggestion(unknown, found['METHODS'])}"
        )
    return Rows(*found.values(), tuple(dict.fromkeys(wanted)))


def _are_models(rows: Any) -> bool:
    return isinstance(rows, Sequence) and all(isinstance(row, Model) for row in rows)


def _add(known: dict[str, Any], rows: Sequence[Any], kind: str, path: str | os.PathLike) -> None:
    if not isinstance(rows, Sequence):
        raise InputError(f"{path}: {kind} is {rows!r}; make it a list of rows")
    for row in rows:
        if not isinstance(row, _KINDS[kind]):
            raise InputError(
                f"{path}: {kind} holds {row!r}; give rows of relmap.catalogue, {_KINDS[kind].__name__}(...)"
            )
        if row.id in known:
            raise InputError(f"{path}: {kind} has {row.id!r}, which is another's id already; choose another id")
        known[row.id] = _as_text(row, kind, path)


def _as_text(row: Any, kind: str, path: str | os.PathLike) -> Any:
    """The row with what makes it by name, for the jobs of a run to import; ``other.py:name`` lies beside its file."""
    folder = Path(path).parent
    texts = {}
    for name in (_MAKERS[kind], *(["renderer"] if kind == "DATASETS" else [])):
        thing = getattr(row, name)
        if callable(thing):
            texts[name] = f"{Path(path)}:{thing.__qualname__}"
        elif thing and thing.rpartition(":")[0].endswith(".py"):
            file, _, attribute = thing.rpartition(":")
            if not (folder / file).is_file():
                raise InputError(
                    f"{path}: {kind} names {file}, which is not in {folder}; correct the row of {row.id!r}"
                )
            texts[name] = f"{folder / file}:{attribute}"
    if isinstance(getattr(row, "wraps", None), Method):
        texts["wraps"] = _as_text(row.wraps, kind, path)
    return replace(row, **texts)


def as_configured(rows: Rows, config: Mapping[str, Any]) -> Rows:
    """The rows with what the config says of them.

    A data set has what the format has that the config gives it: a folder of folders has no boxes; and what only its
    renderer knows, where it is rendered. A method has the
    parameters that the config gives it, as if its id fixed them: they are in all that a job is told of it.

    Raises:
        InputError: an unknown format or method, or a parameter that a method's id fixes.
    """
    return replace(
        rows,
        datasets=_as_rendered(_with_formats(rows.datasets, config["datasets"]), config["datasets"]),
        methods=_with_parameters(rows.methods, config.get("explainers") or {}),
    )


def _with_formats(datasets: Mapping[str, DataSet], entries: Mapping[str, Any]) -> dict[str, DataSet]:
    formats = {name: row for name, row in (datasets | FORMATS).items() if row.reader}
    found = dict(datasets)
    for name, entry in entries.items():
        if not entry or name not in found:
            continue
        form = entry["format"] or name
        if form not in formats:
            raise InputError(f"config: `datasets.{name}.format` is `{form}`; choose one of {', '.join(formats)}")
        if form != name:
            found[name] = replace(found[name], reader=formats[form].reader, has=formats[form].has)
    return found


def _as_rendered(datasets: Mapping[str, DataSet], entries: Mapping[str, Any]) -> dict[str, DataSet]:
    rendered = [name for name, entry in entries.items() if entry and entry.get("source") == "render"]
    more = {name: row.has + row.rendered_has for name, row in datasets.items() if name in rendered}
    return {name: replace(row, has=more.get(name, row.has)) for name, row in datasets.items()}


def _with_parameters(methods: Mapping[str, Method], entries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Method]:
    found = dict(methods)
    for name, parameters in entries.items():
        if name not in found:
            raise InputError(f"config: `explainers.{name}`: no row of a method has this id{suggestion(name, found)}")
        row = found[name]
        fixed = next((key for key in parameters if key in row.parameters), None)
        if fixed:
            raise InputError(
                f"config: `explainers.{name}.{fixed}`: the id fixes it to {row.parameters[fixed]!r}; choose another "
                "method, or add a row of your own"
            )
        found[name] = replace(row, parameters={**row.parameters, **parameters})
    return found


def configured_models(rows: Rows, config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Networks of a run -> their entries in its config; those that are null are left out.

    An entry whose row has several trainings stands for the first ``trainings`` of them; one of these may have an entry
    of its own, or be null.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name, entry in (config.get("models") or {}).items():
        if name not in rows.models or not rows.models[name].trainings:
            found |= {name: entry} if entry else {}
        elif entry:
            alike = rows.trainings(name)[: entry.get("trainings")]
            found |= {one: entry for one in alike if one not in config["models"]}
    return found


def label(identifier: str) -> str:
    """The label of an id of the catalogue; of an unknown one, the id itself."""
    return Rows().label(identifier)


def rank(*identifiers: str) -> tuple[tuple[int, str], ...]:
    """To sort data sets, models and published numbers as tables have them; unknown ones come last, by name."""
    order = [*DATASETS, *MODELS, *columns()]
    return tuple((order.index(one) if one in order else len(order), one) for one in identifiers)
