"""Papers: what each prints, as rows of catalogue ids.

A paper is a folder with ``paper.yaml`` and one ``table<N>.csv`` a table (columns: ``papers/README.md``). What a paper
prints are labels, not ids: ``paper.yaml`` says which catalogue id each label of a table means. A cell is found by all
of data set, model, method, metric and variant; two rows with one key are refused, for one of them would be lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from relmap.catalogue.rows import Rows
from relmap.errors import InputError

PRINTED = ("dataset", "model", "method", "metric", "variant")
COLUMNS = ("paper", "table", *PRINTED, "value", "std", "higher_is_better", "emphasis", "note")
_KINDS = {"datasets", "models", "methods", "metrics", "variants"}
_TABLE_KEYS = _KINDS | {"number", "caption", "rows"}
_KEYS = _KINDS | {"title", "short", "citation", "tables", "figures", "controls", "notebooks", "extra"}


@dataclass(frozen=True)
class Cell:
    """Where a value belongs, in catalogue ids; ``variant`` is what the other four do not say, ``""`` for nothing."""

    dataset: str
    model: str
    method: str
    metric: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.dataset}/{self.model} {self.metric} {self.method}{f' ({self.variant})' if self.variant else ''}"


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


def read_papers(folder: str | os.PathLike) -> list[Paper]:
    """All papers below a folder, by name."""
    return [read_paper(path.parent) for path in sorted(Path(folder).glob("*/paper.yaml"))]


def read_paper(folder: str | os.PathLike) -> Paper:
    """One paper's ``paper.yaml``.

    Raises:
        InputError: it is absent or not YAML, has an unknown key or lacks one, or has no file of a table.
    """
    folder = Path(folder)
    path = folder / "paper.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot read the paper ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(sorted(_KEYS))}")
    for key in sorted(content.keys() - _KEYS):
        raise InputError(f"{path}: unknown key `{key}`; known are {', '.join(sorted(_KEYS))}")
    for key in ("title", "short", "citation", "methods", "metrics", "tables", "figures"):
        if key not in content:
            raise InputError(f"{path}: lacks the key `{key}`")
    tables = {}
    for entry in content["tables"]:
        for key in sorted(entry.keys() - _TABLE_KEYS):
            raise InputError(f"{path}: table {entry.get('number')}: unknown key `{key}`")
        number = entry["number"]
        if number in tables or not (folder / f"table{number}.csv").is_file():
            raise InputError(f"{path}: table {number} is named twice, or table{number}.csv is not beside it")
        common = {kind: {**(content.get(kind) or {}), **(entry.get(kind) or {})} for kind in _KINDS}
        tables[number] = {"rows": ["method"], **entry, **common}
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
    )


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
    path, table = paper.folder / f"table{number}.csv", paper.tables[number]
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise InputError(f"{path}: lacks the column {missing[0]}")
    _refuse_repeated(frame, path, "is printed twice")
    known = known or Rows()
    columns = known.columns()
    rows = []
    for line, row in enumerate(frame.to_dict("records"), start=2):
        found = _resolved(row, table, columns, f"{path}, line {line}")
        wraps = known.methods[found["method"]].wraps if found["method"] in known.methods else None
        labels = {f"{kind}_label": known.label(found[kind]) for kind in ("dataset", "model")}
        rows.append({**found, **labels, "wraps": wraps or ""})
    resolved = pd.DataFrame(rows, index=frame.index)
    _refuse_repeated(resolved, path, "is the cell of two rows; give their labels ids of their own in paper.yaml")
    return resolved


def cells(frame: pd.DataFrame) -> Iterator[Cell]:
    """The cell of each row of a frame with the columns of ``PRINTED``."""
    yield from (Cell(*row) for row in frame[list(PRINTED)].itertuples(index=False, name=None))


def _refuse_repeated(frame: pd.DataFrame, path: Path, why: str) -> None:
    repeated = frame[frame.duplicated(list(PRINTED))]
    if len(repeated):
        raise InputError(f"{path}: {', '.join(repeated.iloc[0][list(PRINTED)])} {why}")


def _resolved(
    row: Mapping[str, str], table: Mapping[str, Any], columns: Mapping[str, Any], where: str
) -> dict[str, Any]:
    method = _named(table["methods"], row["method"], "methods", where)
    metric = _metric(_named(table["metrics"], row["metric"], "metrics", where), columns, row, where)
    parts = [part for part in row["variant"].split(";") if part]
    method_id = method["id"]
    labels = []
    if isinstance(method_id, Mapping):
        deciding = [part for part in parts if part in method_id] or [""]
        if len(deciding) > 1 or deciding[0] not in method_id:
            raise InputError(
                f"{where}: variant {row['variant']!r} decides on no one id of {row['method']} in paper.yaml"
            )
        method_id = method_id[deciding[0]]
        labels = [part for part in parts if part in deciding]
        parts = [part for part in parts if part not in deciding]
    known = [_named(table["variants"], part, "variants", where) for part in parts]
    kept = [part for part, entry in zip(parts, known, strict=True) if not entry.get("redundant")]
    labels += [entry["label"] for part, entry in zip(parts, known, strict=True) if part in kept]
    return {
        **row,
        "dataset": table["datasets"].get(row["dataset"], row["dataset"]),
        "model": table["models"].get(row["model"], row["model"]),
        "method": method_id,
        "metric": metric["id"],
        "variant": ";".join(kept),
        "printed": row["method"],
        "label": method["label"],
        "variant_label": ", ".join(labels),
        **{key: metric[key] for key in ("head", "digits", "scale", "spread")},
        "select": ";".join(entry["select"] for entry in known if entry.get("select")),
    }


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
