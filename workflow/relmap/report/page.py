"""Gather what a run made and write ``index.html``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from relmap.catalogue.papers import Paper, read_paper
from relmap.catalogue.rows import label, rank
from relmap.errors import InputError
from relmap.job.files import atomic_path
from relmap.job.provenance import costs
from relmap.report import engine, reading

_TEMPLATES = Path(__file__).parent
PAPERS = Path(__file__).resolve().parents[3] / "papers"


def write_report(results_dir: str | os.PathLike, out: str | os.PathLike) -> None:
    """Write the first page of a run's report.

    The page needs no server, network or other file but the run's own figures, which it links relatively. A part of the
    run that is absent is named as absent.

    Args:
        results_dir: the run's folder.
        out: the page to write.

    Raises:
        InputError: the folder does not exist, or a file in it is broken.
    """
    results, out = Path(results_dir), Path(out)
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; run the workflow first")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    base = os.path.relpath(results.resolve(), out.resolve().parent)
    html = environment.get_template("index.html.j2").render(base=Path(base).as_posix(), **gather(results))
    with atomic_path(out) as temporary:
        temporary.write_text(html, encoding="utf-8")


def gather(results: Path) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    config_text, config = reading.read_config(results / "config.yaml")
    claims = reading.read_csv(results / "tables" / "clam_claims.csv")
    if claims is not None and "verdict" not in claims:
        raise InputError(f"{results}/tables/clam_claims.csv: lacks the column verdict; delete it and run again")
    paper = read_paper(PAPERS / "clam")
    tables = [_table(results, paper, number) for number in paper.tables]
    folder = results / "figures"
    numbers = [figure["number"] for figure in paper.figures if not figure.get("schematic")]
    figures = [(n, reading.read_figure(folder, f"{paper.id}_figure{n:02}")) for n in numbers]
    rules = costs(results / "benchmarks")
    return {
        "run": str(config.get("run") or results.resolve().name),
        "config_text": config_text,
        "confidence": f"{100 * float((config.get('evaluation') or {}).get('confidence', 0.95)):g} %",
        "rendered": _rendered(config),
        "narrow": _narrow(config),
        "datasets": _datasets(results),
        "models": _models(results),
        "provenance": reading.read_optional_json(results / "provenance.json"),
        "rules": sorted(rules.items(), key=lambda item: -item[1]["seconds"]),
        "seconds": sum(rule["seconds"] for rule in rules.values()),
        "jobs": sum(rule["jobs"] for rule in rules.values()),
        "accuracies": _sortable(results, "accuracies"),
        "tables": tables,
        "cells": (sum(table["filled"] for table in tables), sum(table["cells"] for table in tables)),
        "claims": None if claims is None else claims.to_dict("records"),
        "verdicts": Counter([] if claims is None else claims["verdict"]),
        "controls": _sortable(results, "clam_controls"),
        "attributes": _sortable(results, "clam_attributes"),
        "ablation": _sortable(results, "clam_ablation"),
        "ablation_explainers": _sortable(results, "clam_ablation_explainers"),
        "costs": engine.costs(results),
        "leaks": engine.leaks(results),
        "has_steps": (results / "tables" / "conservation.csv").is_file(),
        "galleries": engine.galleries(folder),
        "training": reading.read_figure(folder, "training_curves"),
        "figures": figures,
        "drawn": sum(figure is not None for _, figure in figures),
        "notebooks": sorted(path.name for path in (results / "notebooks").glob("*.ipynb")),
    }


def duration(seconds: float) -> str:
    """Seconds in words: 41.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _sortable(results: Path, name: str) -> tuple[list[str], list[list[reading.Cell]]] | None:
    frame = reading.read_csv(results / "tables" / f"{name}.csv")
    return None if frame is None else reading.sortable(frame)


def _table(results: Path, paper: Paper, number: int) -> dict[str, Any]:
    """One of the paper's tables: layout, long form, and how many cells are filled."""
    path = results / "tables" / f"{paper.id}_table{number}.csv"
    title = paper.tables[number]["caption"]
    frame = reading.read_csv(path)
    table: dict[str, Any] = {"number": number, "title": title, "grid": None, "long": None, "filled": 0, "cells": 0}
    if frame is None:
        return table
    missing = {"value", "reproduced", "ci_low", "ci_high", "n_images", "role", "missing"} - set(frame.columns)
    if missing:
        raise InputError(f"{path}: lacks {', '.join(sorted(missing))}; delete it and run again")
    printed = frame[frame["role"] == "published"]
    filled = int(pd.to_numeric(printed["reproduced"], errors="coerce").notna().sum())
    table |= {
        "grid": reading.grid(frame, paper.tables[number]["rows"]),
        "long": reading.sortable(reading.filled_table(frame)),
    }
    table["files"] = sorted(path.name for path in (results / "tables").glob(f"{path.stem}.*"))
    return table | {"filled": filled, "cells": len(printed)}


def _rendered(config: Mapping[str, Any]) -> list[str]:
    """Labels of the data sets that the run rendered itself."""
    chosen = config.get("datasets") or {}
    return [label(name) for name, entry in chosen.items() if (entry or {}).get("source") == "render"]


def _narrow(config: Mapping[str, Any]) -> list[str]:
    """The networks that have fewer channels than the published ones, with their factor."""
    chosen = config.get("models") or {}
    found = {name: float((entry or {}).get("width", 1.0)) for name, entry in chosen.items()}
    return [f"{label(name)} at {width:g} of its width" for name, width in found.items() if width < 1]


def _datasets(results: Path) -> list[dict[str, Any]]:
    """Data cards (those that say which data set they are of), with the fingerprints of the manifests."""
    found = []
    for path in sorted((results / "data").glob("*.json")):
        card = reading.read_optional_json(path)
        if isinstance(card, Mapping) and "dataset" in card:
            fingerprint = reading.read_fingerprint(results / "manifests" / f"{path.stem}.parquet")
            found.append({"label": label(str(card["dataset"])), "fingerprint": fingerprint, **card})
    return found


def _models(results: Path) -> list[dict[str, Any]]:
    """Model cards below ``models/<dataset>/<model>.json``."""
    found = []
    for path in sorted((results / "models").glob("*/*.json")):
        card = reading.read_optional_json(path)
        if isinstance(card, Mapping) and "architecture" in card:
            at = rank(path.parent.name, path.stem)
            found.append((at, {"data": label(path.parent.name), "label": label(path.stem), **card}))
    return [card for _, card in sorted(found, key=lambda item: item[0])]
