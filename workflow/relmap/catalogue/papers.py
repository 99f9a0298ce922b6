"""Papers: what each prints, as rows of catalogue ids.

A paper is a folder with ``paper.yaml`` and one ``table<N>.csv`` a table (columns: ``papers/README.md``). What a paper
prints are labels, not ids: ``paper.yaml`` says which catalogue id each label of a table means. A cell is found by all
of data set, model, method, metric and variant; two rows with one key are refused, for one of them would be lost.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from relmap.catalogue.rows import Rows
from relmap.errors import InputError, suggestion
from relmap.job.yaml_files import read_yaml

SCHEMA = Path(__file__).parents[2] / "schemas" / "paper.schema.yaml"
PRINTED = ("dataset", "model", "method", "metric", "variant")
COLUMNS = ("paper", "table", *PRINTED, "value", "std", "higher_is_better", "emphasis", "note")
_KINDS = ("datasets", "models", "methods", "metrics", "variants")
EMPHASIS = {"", "bold", "underline", "star"}
# What may be true of a pair, by which a variant selects: the target is a label of the image; the network predicts it;
# it has a box that no annotator found difficult; and the pair is in the difficult subset of the pointing game.
FLAGS = ("present", "predicted", "counted", "difficult")
_TABLE_KEYS = {*_KINDS, "number", "caption", "rows"}
_KEYS = {*_KINDS, "title", "short", "citation", "tables", "figures", "controls", "notebooks", "extra", "measured"}
_KEYS |= {"significance", "main_claims"}
_REQUIRED = ("title", "short", "citation", "methods", "metrics", "tables", "figures")


@dataclass(frozen=True)
class Cell:
    """Where a value belongs, in catalogue ids.

    ``variant`` is what the other four do not say, ``""`` for nothing; ``select`` are the flags of the pairs that it
    means, joined by ``;``.
    """

    dataset: str
    model: str
    method: str
    metric: str
    variant: str = ""
    select: str = ""

    def __str__(self) -> str:
        return f"{self.dataset}/{self.model} {self.metric} {self.method}{f' ({self.variant})' if self.variant else ''}"


@dataclass(frozen=True)
class Significance:
    """Which printed columns of which tables are tested against their best method, and at which level."""

    tables: tuple[int, ...]
    columns: tuple[str, ...]
    level: float = 0.05


@dataclass(frozen=True)
class Paper:
    """One paper's folder, read.

    Attributes:
        id: name of the folder.
        folder: where it lies.
        title, short, citation: for readers.
        tables: number -> what paper.yaml says of that table, with what holds for all tables filled in.
        figures: what paper.yaml says of each figure.
        controls: methods that know nothing of the network, measured beside the paper's.
        notebooks: name -> what it reads, the methods that it must have, its parameters as keys of the config.
        extra: tables that the paper's own rules make: name and caption.
        measured: cells that its figures show beside those of its tables.
        significance: what is tested behind the stars of its tables, where it prints any.
        main_claims: ids of the claims by which a few words tell how it stands, of its ``claims.yaml``.
        networks: method -> model -> the model that stands in its place under that method: a method with a network of
            its own stands in the same column as those that explain the table's.
    """

    id: str
    folder: Path
    title: str
    short: str
    citation: str
    tables: Mapping[int, Mapping[str, Any]]
    figures: tuple[Mapping[str, Any], ...]
    controls: tuple[str, ...]
    notebooks: Mapping[str, Mapping[str, Any]]
    extra: tuple[Mapping[str, str], ...]
    measured: tuple[Cell, ...] = ()
    significance: Significance | None = None
    main_claims: tuple[str, ...] = ()
    networks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_papers(folder: str | os.PathLike) -> list[Paper]:
    """All papers below a folder, by name."""
    return [read_paper(path.parent) for path in sorted(Path(folder).glob("*/paper.yaml"))]


def read_paper(folder: str | os.PathLike) -> Paper:
    """One paper's ``paper.yaml``.

    Raises:
        InputError: it is absent or not YAML, has an unknown key or lacks one, or has no file of a table.
    """
    folder = Path(folder)
    content = _content(folder / "paper.yaml")
    tables = _tables(folder, content)
    return Paper(
        folder.resolve().name,
        folder,
        content["title"],
        content["short"],
        content["citation"],
        tables,
        tuple(content["figures"]),
        tuple(content.get("controls") or ()),
        {name: entry or {} for name, entry in (content.get("notebooks") or {}).items()},
        tuple(content.get("extra") or ()),
        tuple(
            Cell(*ids, "", _selection([block.get("select", "")], f"{folder / 'paper.yaml'}: `measured`"))
            for block in content.get("measured") or ()
            for ids in product(*(block[kind] for kind in ("datasets", "models", "methods", "metrics")))
        ),
        _significance(content.get("significance"), tables, folder / "paper.yaml"),
        tuple(content.get("main_claims") or ()),
        _networks(tables, folder / "paper.yaml"),
    )


def _networks(tables: Mapping[int, Mapping[str, Any]], path: Path) -> dict[str, dict[str, str]]:
    """Methods of tables that have networks of their own, in ids.

    Raises:
        InputError: two tables say otherwise of one method and model.
    """
    found: dict[str, dict[str, str]] = {}
    for number, table in tables.items():
        for entry in table["methods"].values():
            ids = entry["id"].values() if isinstance(entry["id"], Mapping) else [entry["id"]]
            for method, (printed, own) in product(ids, entry.get("models", {}).items()):
                model = table["models"].get(printed, printed)
                if found.setdefault(method, {}).setdefault(model, own) != own:
                    raise InputError(
                        f"{path}: table {number}: `methods`: {method} has another network in the place of {model} than "
                        "in another table; give one of them an id of its own"
                    )
    return found


def _significance(
    entry: Mapping[str, Any] | None, tables: Mapping[int, Mapping[str, Any]], path: Path
) -> Significance | None:
    """What a paper asks to be tested.

    Raises:
        InputError: a table that it has not, or a column that none of these prints.
    """
    if entry is None:
        return None
    stray = next((number for number in entry["tables"] if number not in tables), None)
    if stray is not None:
        raise InputError(f"{path}: `significance.tables`: no table {stray}; it has {', '.join(map(str, tables))}")
    metrics = [metric for number in entry["tables"] for metric in tables[number]["metrics"].values()]
    printed = {metric if isinstance(metric, str) else metric["id"] for metric in metrics}
    unknown = next((column for column in entry["columns"] if column not in printed), None)
    if unknown is not None:
        raise InputError(
            f"{path}: `significance.columns`: {unknown!r} is no id under `metrics`{suggestion(unknown, printed)}"
        )
    return Significance(tuple(entry["tables"]), tuple(entry["columns"]), float(entry.get("level", 0.05)))


def _content(path: Path) -> dict[str, Any]:
    """What stands in a ``paper.yaml``: no other keys than ours, and all that must be there."""
    content = read_yaml(path, "mend the paper")
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(sorted(_KEYS))}")
    for key in sorted(content.keys() - _KEYS):
        raise InputError(f"{path}: unknown key `{key}`; known are {', '.join(sorted(_KEYS))}")
    for key in _REQUIRED:
        if key not in content:
            raise InputError(f"{path}: lacks the key `{key}`")
    error = best_match(_validator().iter_errors(content))
    if error is not None:
        where = ".".join(map(str, error.absolute_path))
        raise InputError(f"{path}: `{where}`: {error.message}; see {SCHEMA.name}")
    for figure in content["figures"]:
        if figure.get("notebook") not in (None, *(content.get("notebooks") or {})):
            raise InputError(f"{path}: figure {figure['number']}: `notebooks` has no entry {figure['notebook']!r}")
    return content


@functools.cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))


def _tables(folder: Path, content: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """What a paper says of each table, with what it says of all tables filled in."""
    path = folder / "paper.yaml"
    tables: dict[int, dict[str, Any]] = {}
    for entry in content["tables"]:
        for key in sorted(entry.keys() - _TABLE_KEYS):
            raise InputError(f"{path}: table {entry.get('number')}: unknown key `{key}`")
        number = entry["number"]
        if number in tables or not (folder / f"table{number}.csv").is_file():
            raise InputError(f"{path}: table {number} is named twice, or table{number}.csv is not beside it")
        common = {kind: {**(content.get(kind) or {}), **(entry.get(kind) or {})} for kind in _KINDS}
        tables[number] = {"rows": ["method"], **entry, **common}
    return tables


@functools.cache
def printed_labels(folder: str | os.PathLike, number: int = 1) -> Mapping[str, str]:
    """Catalogue id -> label in one table of a paper's folder, in its order; no ablation's."""
    entries = read_paper(folder).tables[number]["methods"].values()
    ids = [
        (entry["id"] if isinstance(entry["id"], str) else entry["id"].get("", ""), entry["label"]) for entry in entries
    ]
    return MappingProxyType({method: label for method, label in ids if method})


def published(paper: Paper, number: int, known: Rows | None = None) -> pd.DataFrame:
    """One table's printed rows, as text, in catalogue ids.

    Args:
        paper: the paper.
        number: of the table.
        known: the rows that ids are looked up in; the catalogue's by default.

    Returns:
        The columns of the file, with ``dataset``, ``model``, ``method``, ``metric`` and ``variant`` as the catalogue
        has them; ``label`` and ``variant_label``, what is printed for method and variant; ``dataset_label`` and
        ``model_label``; ``wraps``, the method that this one refines; of the metric ``head``, ``digits``, ``scale``
        (printed number over ours) and ``spread``; ``select``, the pairs that the variant wants.

    Raises:
        InputError: the file lacks a column, a label has no id, two rows have one printed key, or mean one cell, or the
            file and the metric's row differ in its direction.
    """
    path = paper.folder / f"table{number}.csv"
    frame = _printed_rows(path)
    known = known or Rows()
    columns = known.columns()
    rows = [
        _with_labels(_resolved(row, paper.tables[number], columns, f"{path}, line {line}"), known)
        for line, row in enumerate(frame.to_dict("records"), start=2)
    ]
    resolved = pd.DataFrame(rows, index=frame.index)
    _refuse_repeated(resolved, path, "is the cell of two rows; give their labels ids of their own in paper.yaml")
    return resolved


def read_table(path: Path, needed: Iterable[str], cure: str) -> pd.DataFrame:
    """A CSV file as the text that stands in it.

    Raises:
        InputError: it is not a table, or lacks a column; ``cure`` ends the message.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table ({error}); {cure}") from error
    missing = [name for name in needed if name not in frame]
    if missing:
        raise InputError(f"{path}: lacks the column {', '.join(missing)}; {cure}")
    return frame


def _printed_rows(path: Path) -> pd.DataFrame:
    """A table's file, as text, if it has all columns and no row twice."""
    frame = read_table(path, COLUMNS, "mend it")
    for column in ("value", "std"):
        words = frame[(frame[column] != "") & pd.to_numeric(frame[column], errors="coerce").isna()]
        if len(words):
            raise InputError(f"{path}, line {words.index[0] + 2}: {column} is {words[column].iloc[0]!r}, not a number")
    marks = frame[~frame["emphasis"].map(lambda text: set(text.split("+")) <= EMPHASIS)]
    if len(marks):
        raise InputError(f"{path}, line {marks.index[0] + 2}: emphasis {marks['emphasis'].iloc[0]!r} is none of ours")
    _refuse_repeated(frame, path, "is printed twice")
    return frame


def _with_labels(row: Mapping[str, Any], known: Rows) -> dict[str, Any]:
    """A row in ids with the labels of data set and model, and the method that its own refines."""
    wraps = known.methods[row["method"]].wraps if row["method"] in known.methods else None
    labels = {f"{kind}_label": known.label(row[kind]) for kind in ("dataset", "model")}
    return {**row, **labels, "wraps": getattr(wraps, "id", wraps) or ""}


def cells(frame: pd.DataFrame) -> Iterator[Cell]:
    """The cell of each row of a frame with the columns of ``PRINTED`` and ``select``."""
    yield from (Cell(*row) for row in frame[[*PRINTED, "select"]].itertuples(index=False, name=None))


def _refuse_repeated(frame: pd.DataFrame, path: Path, why: str) -> None:
    repeated = frame[frame.duplicated(list(PRINTED))]
    if len(repeated):
        raise InputError(f"{path}: {', '.join(repeated.iloc[0][list(PRINTED)])} {why}")


@dataclass(frozen=True)
class _Variant:
    """What the other ids of a row do not say: in ids, as it is printed, and the pairs that it wants."""

    id: str
    label: str
    select: str


def _resolved(
    row: Mapping[str, str], table: Mapping[str, Any], columns: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """A printed row in catalogue ids, with what the table prints for them."""
    method = _named(table["methods"], row["method"], "methods", where)
    metric = _metric(_named(table["metrics"], row["metric"], "metrics", where), columns, row, where)
    deciding = _deciding(method["id"], row, where)
    variant = _variant(_parts(row), deciding, table["variants"], where)
    return {
        **row,
        "dataset": table["datasets"].get(row["dataset"], row["dataset"]),
        "model": table["models"].get(row["model"], row["model"]),
        "method": method["id"] if deciding is None else method["id"][deciding],
        "metric": metric["id"],
        "variant": variant.id,
        "printed": row["method"],
        "label": method["label"],
        "variant_label": variant.label,
        **{key: metric[key] for key in ("head", "digits", "scale", "spread")},
        "select": variant.select,
    }


def _parts(row: Mapping[str, str]) -> list[str]:
    """What a row's variant says, one thing after the other."""
    return [part for part in row["variant"].split(";") if part]


def _deciding(ids: str | Mapping[str, str], row: Mapping[str, str], where: str) -> str | None:
    """What decides which of a method's ids is meant, a part of the variant or the data set; None where it has but one.

    ``""`` is the part that stands for none of the others.

    Raises:
        InputError: several parts decide, or none.
    """
    if not isinstance(ids, Mapping):
        return None
    deciding = [part for part in (*_parts(row), row["dataset"]) if part in ids] or [""]
    if len(deciding) > 1 or deciding[0] not in ids:
        raise InputError(
            f"{where}: variant {row['variant']!r} on {row['dataset']} decides on no one id of {row['method']} in "
            "paper.yaml"
        )
    return deciding[0]


def _variant(parts: Sequence[str], deciding: str | None, entries: Mapping[str, Any], where: str) -> _Variant:
    """A row's variant, once the part that decides on the method's id is taken out of it."""
    labels = [entries.get(part, {}).get("label", part) for part in parts if part == deciding]
    rest = [part for part in parts if part != deciding]
    known = [_named(entries, part, "variants", where) for part in rest]
    kept = [part for part, entry in zip(rest, known, strict=True) if not entry.get("redundant")]
    labels += [entry["label"] for part, entry in zip(rest, known, strict=True) if part in kept]
    select = _selection([entry.get("select", "") for entry in known], f"{where}: `variants`")
    return _Variant(";".join(kept), ", ".join(labels), select)


def _selection(texts: Iterable[str], where: str) -> str:
    """Flags of several selections, each once.

    Raises:
        InputError: another than ``FLAGS``.
    """
    flags = sorted({flag for text in texts for flag in text.split(";") if flag})
    stray = next((flag for flag in flags if flag not in FLAGS), None)
    if stray:
        raise InputError(f"{where} selects by {stray!r}; choose from {', '.join(FLAGS)}")
    return ";".join(flags)


def _metric(
    entry: str | Mapping[str, Any], columns: Mapping[str, Any], row: Mapping[str, str], where: str
) -> dict[str, Any]:
    """How a table prints a metric: as the metric's row says, but for what paper.yaml says otherwise."""
    entry = {"id": entry} if isinstance(entry, str) else entry
    own = {"head": "", "digits": 4, "scale": 1, "spread": ""}
    if entry["id"] in columns:
        column = columns[entry["id"]][1]
        if row["higher_is_better"] and row["higher_is_better"] != str(column.higher_is_better).lower():
            raise InputError(
                f"{where}: higher_is_better is {row['higher_is_better']}, unlike in the row of {column.id}"
            )
        own = {key: getattr(column, key) for key in own}
    return {**own, **entry}


def _named(entries: Mapping[str, Any], label: str, kind: str, where: str) -> Mapping[str, Any]:
    if label not in entries:
        raise InputError(f"{where}: {label!r} has no entry under `{kind}` in paper.yaml; say which id it means")
    return entries[label]
