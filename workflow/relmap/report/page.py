"""Gather what a run made and write ``index.html``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from relmap.catalogue.papers import Paper
from relmap.catalogue.rows import Rows, rank
from relmap.errors import InputError
from relmap.evidence.layout import p_text
from relmap.evidence.status import HEADS, printed_cells, read_table, run_config, status_of
from relmap.job.files import atomic_path
from relmap.job.provenance import costs
from relmap.report import engine, gallery, leaderboard, reading

_TEMPLATES = Path(__file__).parent
_FILLED = ("dataset", "model", "method", "metric", "variant", "label", "variant_label", "head", "value", "std")
_FILLED += ("reproduced", "reproduced_std", "ci_low", "ci_high", "n_images", "digits", "scale", "spread", "emphasis")
_FILLED += ("higher_is_better", "note", "role", "missing", "wraps")
_OF_CLAIMS = ("claim", "text", "source", "published_verdict", "suspect", "verdict", "evidence")
_OF_CLAIMS += ("p_holds", "p_fails", "holm_holds", "holm_fails")
_ROW_HEADS = {"dataset": "Data set", "model": "Network", "method": "Method", "metric": "Metric", "variant": "Variant"}


def write_report(
    results_dir: str | os.PathLike, out: str | os.PathLike, papers: Sequence[Paper] = (), rows: Rows | None = None
) -> None:
    """Write the first page of a run's report.

    The page needs no server, network or other file but the run's own figures, which it links relatively. A part of the
    run that is absent is named as absent.

    Args:
        results_dir: the run's folder.
        out: the page to write.
        papers: those of the run.
        rows: what ids are named by; the catalogue's by default.

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
    environment.filters["numbers"] = numbers
    base = os.path.relpath(results.resolve(), out.resolve().parent)
    found = gather(results, papers, rows or Rows())
    html = environment.get_template("index.html.j2").render(base=Path(base).as_posix(), **found)
    with atomic_path(out) as temporary:
        temporary.write_text(html, encoding="utf-8")


def gather(results: Path, papers: Sequence[Paper], rows: Rows) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    config_text, config = reading.read_config(results / "config.yaml")
    folder = results / "figures"
    rules = _rules(results)
    shown = [_paper(results, paper, rows) for paper in papers]
    return {
        "run": str(config.get("run") or results.resolve().name),
        "config_text": config_text,
        "confidence": f"{100 * float((config.get('evaluation') or {}).get('confidence', 0.95)):g} %",
        "status_heads": HEADS,
        "statuses": status_of(results, config or run_config(), papers),
        "papers": shown,
        "rendered": _rendered(results, config, rows),
        "narrow": _narrow(results, config, rows),
        "datasets": _datasets(results, rows),
        "models": _models(results, rows),
        "provenance": reading.read_optional_json(results / "provenance.json"),
        **rules,
        "accuracies": _sortable(results, "accuracies", rows),
        **_totals(shown),
        "leaderboard": leaderboard.gather(results, rows),
        "gallery": gallery.for_page(
            results, rows.label, {key: leak.text for key, leak in engine.leaks_of(results).items()}
        ),
        "costs": engine.costs(results, rows.label),
        "leaks": engine.leaks(results, rows.label),
        "has_steps": (results / "tables" / "conservation.csv").is_file(),
        "galleries": engine.galleries(folder, rows),
        "training": reading.read_figure(folder, "training_curves", rows.label),
        "notebooks": _shared_notebooks(results, papers),
    }


def _rules(results: Path) -> dict[str, Any]:
    """What the rules took, the longest first, and all together."""
    rules = costs(results / "benchmarks")
    return {
        "rules": sorted(rules.items(), key=lambda item: -item[1]["seconds"]),
        "seconds": sum(rule["seconds"] for rule in rules.values()),
        "jobs": sum(rule["jobs"] for rule in rules.values()),
    }


def _totals(shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over all papers' sections: cells and figures, made and to be made, and claims by verdict."""
    return {
        "cells": tuple(sum(paper[key] for paper in shown) for key in ("filled", "cells")),
        "drawn": tuple(sum(paper[key] for paper in shown) for key in ("drawn", "drawable")),
        "verdicts": sum((paper["verdicts"] for paper in shown), Counter()),
    }


def duration(seconds: float) -> str:
    """Seconds in words: 41.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def numbers(found: Iterable[int], word: str) -> str:
    """Numbers in words, three or more in a row as a range: Table 1; Figures 1 and 2; Figures 1, 3 to 7 and 9."""
    ranges: list[list[int]] = []
    for number in sorted(found):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    parts = [
        text
        for part in ranges
        for text in ([f"{part[0]} to {part[-1]}"] if len(part) > 2 else [str(number) for number in part])
    ]
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    return f"{word}{'s' * (sum(map(len, ranges)) > 1)} {listed}"


def _paper(results: Path, paper: Paper, rows: Rows) -> dict[str, Any]:
    """One paper's section."""
    tables = [_table(results, paper, number, rows) for number in paper.tables]
    return {
        "id": paper.id,
        "short": paper.short,
        "title": paper.title,
        "citation": paper.citation,
        "tables": tables,
        "filled": sum(table["filled"] for table in tables),
        "cells": sum(table["cells"] for table in tables),
        **_claims(results, paper),
        "extra": [_extra(results, paper, entry, rows) for entry in paper.extra],
        **_figures(results, paper, rows),
        "notebooks": [path for path in _notebooks(results) if path.startswith(f"{paper.id}/")],
    }


def _claims(results: Path, paper: Paper) -> dict[str, Any]:
    """A paper's claims with their verdicts; None where it makes some and the run has none decided."""
    claims = read_table(results / "tables" / f"{paper.id}_claims.csv", _OF_CLAIMS)
    return {
        "claims": None if claims is None else [_claim(row) for row in claims.to_dict("records")],
        "has_claims": claims is not None or (paper.folder / "claims.yaml").is_file(),
        "verdicts": Counter([] if claims is None else claims["verdict"]),
    }


def _claim(row: Mapping[str, str]) -> dict[str, Any]:
    shown = {name: reading.minus(row[name]) for name in ("text", "evidence")}
    # Counts and range stay in sight; the comparisons by name, which are many lines, are folded.
    found = re.fullmatch(r"(.*?differences [^;]*)(?:; (.*))?", shown["evidence"], re.DOTALL)
    counts, named = found.groups() if found else (shown["evidence"], None)
    return {**row, **shown, "evidence": counts, "more": named, "tests": _tests(row)}


def _tests(claim: Mapping[str, str]) -> list[str]:
    """The p-values that decide a claim, or leave it undecided: by itself, and after the correction over claims."""
    sides = {"holds": ["holds"], "fails": ["fails"], "undecided": ["holds", "fails"]}.get(claim["verdict"], [])
    p_values = [(side, float(claim[f"p_{side}"]), float(claim[f"holm_{side}"])) for side in sides]
    return [f"{side}: p {p_text(p)}, corrected {p_text(corrected)}" for side, p, corrected in p_values]


def _figures(results: Path, paper: Paper, rows: Rows) -> dict[str, Any]:
    """A paper's figures that are drawn, and the numbers of those that are not or are schematic."""
    names = {number: f"{paper.id}_figure{number:02}" for number in _figure_numbers(paper, schematic=False)}
    found = {number: reading.read_figure(results / "figures", name, rows.label) for number, name in names.items()}
    drawn = [{"number": number, **figure} for number, figure in found.items() if figure]
    return {
        "figures": drawn,
        "undrawn": [number for number, figure in found.items() if not figure],
        "schematic": _figure_numbers(paper, schematic=True),
        "drawn": len(drawn),
        "drawable": len(names),
    }


def _figure_numbers(paper: Paper, schematic: bool) -> list[int]:
    """Of the schematic figures, or of the others."""
    return [figure["number"] for figure in paper.figures if bool(figure.get("schematic")) is schematic]


def _table(results: Path, paper: Paper, number: int, rows: Rows) -> dict[str, Any]:
    """One of a paper's tables: layout, long form, how many cells are filled and what the others lack."""
    path = results / "tables" / f"{paper.id}_table{number}.csv"
    layout = paper.tables[number]["rows"]
    table: dict[str, Any] = {"number": number, "title": paper.tables[number]["caption"], "file": path.name}
    frame = read_table(path, _FILLED)
    if frame is None:
        return table | {"grid": None, "filled": 0, "cells": 0}
    printed = printed_cells(frame)
    lacking = Counter(printed.loc[~printed["filled"], "missing"]).most_common()
    return table | {
        "row_head": ", ".join(_ROW_HEADS[key] for key in layout),
        "grid": reading.grid(frame, layout),
        "note": reading.note(frame),
        "long": reading.sortable(reading.filled_table(frame), rows.label),
        "files": sorted(file.name for file in path.parent.glob(f"{path.stem}.*")),
        "filled": int(printed["filled"].sum()),
        "cells": len(printed),
        "lacking": ", ".join(f"{name or 'a value'} ({count})" for name, count in lacking),
    }


def _extra(results: Path, paper: Paper, entry: Mapping[str, str], rows: Rows) -> dict[str, Any]:
    """A table that a paper's own rules make.

    Raises:
        InputError: paper.yaml does not say its name and caption.
    """
    missing = [key for key in ("name", "caption") if not entry.get(key)]
    if missing:
        raise InputError(f"{paper.folder / 'paper.yaml'}: an entry of `extra` lacks `{missing[0]}`; give it one")
    name = f"{paper.id}_{entry['name']}"
    return {"text": "", **entry, "file": f"{name}.csv", "table": _sortable(results, name, rows)}


def _sortable(results: Path, name: str, rows: Rows) -> tuple[list[str], list[list[reading.Cell]]] | None:
    frame = read_table(results / "tables" / f"{name}.csv")
    return None if frame is None else reading.sortable(frame, rows.label)


def _notebooks(results: Path) -> list[str]:
    """Executed notebooks, as paths below ``notebooks/``."""
    folder = results / "notebooks"
    found = (path.relative_to(folder) for path in folder.rglob("*.ipynb"))
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _shared_notebooks(results: Path, papers: Sequence[Paper]) -> list[str]:
    """Those of no paper."""
    folders = tuple(f"{paper.id}/" for paper in papers)
    return [path for path in _notebooks(results) if not path.startswith(folders)]


def _rendered(results: Path, config: Mapping[str, Any], rows: Rows) -> list[str]:
    """Labels of the data sets that the run rendered itself; of those that a config has it makes what is needed."""
    chosen = config.get("datasets") or {}
    asked = [name for name, entry in chosen.items() if (entry or {}).get("source") == "render"]
    return [rows.label(name) for name in asked if (results / "data" / f"{name}.json").is_file()]


def _narrow(results: Path, config: Mapping[str, Any], rows: Rows) -> dict[str, list[str]]:
    """The run's networks that have fewer channels than the published ones, by their factor."""
    chosen = config.get("models") or {}
    made = {path.stem for path in results.glob("models/*/*.json")}
    found = {name: float((entry or {}).get("width", 1.0)) for name, entry in chosen.items() if name in made}
    narrow: dict[str, list[str]] = {}
    for name, width in found.items():
        if width < 1:
            narrow.setdefault(f"{width:g}", []).append(rows.label(name))
    return narrow


def _datasets(results: Path, rows: Rows) -> list[dict[str, Any]]:
    """Data cards (those that say which data set they are of), with what their manifests say."""
    found = []
    for path in sorted((results / "data").glob("*.json")):
        card = reading.read_optional_json(path)
        if isinstance(card, Mapping) and "dataset" in card:
            facts = reading.read_manifest_facts(results / "manifests" / f"{path.stem}.parquet")
            counted = reading.read_optional_json(results / "manifests" / f"{path.stem}.json") or {}
            other = {"differences": counted.get("differences", [])}
            found.append({"label": rows.label(str(card["dataset"])), **card, **facts, **other})
    return found


def _models(results: Path, rows: Rows) -> list[dict[str, Any]]:
    """Model cards below ``models/<dataset>/<model>.json``."""
    found = []
    for path in sorted((results / "models").glob("*/*.json")):
        card = reading.read_optional_json(path)
        if isinstance(card, Mapping) and "architecture" in card:
            at = rank(path.parent.name, path.stem)
            names = {"data": rows.label(path.parent.name), "label": rows.label(path.stem)}
            found.append((at, {**names, **card}))
    return [card for _, card in sorted(found, key=lambda item: item[0])]
