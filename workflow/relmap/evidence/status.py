"""How far a run takes each paper: what it prints, what the run's catalogue can fill, and what is there. No torch.

``python -m relmap.evidence.status [results/<run>]`` prints it; the report's first section shows the same lines.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from relmap.catalogue.grid import first_lacking
from relmap.catalogue.papers import Paper, cells, published, read_paper, read_papers
from relmap.catalogue.papers import read_table as read_whole
from relmap.catalogue.rows import Rows, as_configured, configured_models, load_rows
from relmap.errors import InputError
from relmap.job.config import load
from relmap.job.yaml_files import read_yaml

REPOSITORY = Path(__file__).resolve().parents[3]
PAPERS = REPOSITORY / "papers"
DECIDED = ("holds", "fails")
HEADS = ("Paper", "Printed cells", "Can be filled", "Filled", "Figures drawn", "Claims decided", "Lacks first")


@dataclass(frozen=True)
class Status:
    """One paper's.

    Attributes:
        id, short: of the paper.
        printed: cells with a printed value.
        fillable: those of them that the run has every ingredient for.
        filled: those that have a value of ours.
        drawn, figures: figures that are there, of those that are not schematic.
        decided, claims: claims that hold or fail, of all.
        lacking: first ingredient that a cell lacks, by name, and how many cells lack it; the most frequent first.
    """

    id: str
    short: str
    printed: int
    fillable: int
    filled: int
    drawn: int
    figures: int
    decided: int
    claims: int
    lacking: tuple[tuple[str, int], ...]

    @property
    def line(self) -> tuple[str, ...]:
        """What stands under ``HEADS``."""
        counts = (str(count) for count in (self.printed, self.fillable, self.filled))
        parts = ((self.drawn, self.figures), (self.decided, self.claims))
        return (self.short, *counts, *(f"{some} of {all_}" if all_ else "" for some, all_ in parts), self._lacks())

    def _lacks(self) -> str:
        if not self.lacking:
            return ""
        (name, count), *others = self.lacking
        rest = f", {_plural(len(others), 'other')} ({sum(more for _, more in others)})" if others else ""
        return f"{name} ({_plural(count, 'cell')}){rest}"


def status_of(
    results: str | os.PathLike, config: Mapping[str, Any], own: Sequence[Paper] = (), folder: Path = PAPERS
) -> list[Status]:
    """Every paper below a folder, then the run's own from elsewhere.

    Args:
        results: the run's folder; what is not there counts as not made.
        config: of the run, complete.
        own: papers of the run.
        folder: the folder of papers.

    Raises:
        InputError: a paper, an extension or a table of the run is broken.
    """
    known = read_papers(folder)
    at = {paper.folder.resolve() for paper in known}
    papers = [*known, *(paper for paper in own if paper.folder.resolve() not in at)]
    datasets = [name for name, entry in (config.get("datasets") or {}).items() if entry]
    of_run = [paper for paper in papers if paper.folder.resolve() in {one.folder.resolve() for one in own}]
    together = _rows(of_run, config)
    # A paper that the run leaves out is asked what it could fill beside itself alone; the config need not suit it.
    rows = {
        paper.folder: together if paper in of_run else _rows([paper], {**config, "extensions": []}, checked=False)
        for paper in papers
    }
    return [_status(paper, rows[paper.folder], config, datasets, Path(results)) for paper in papers]


def as_text(statuses: Iterable[Status]) -> str:
    """Aligned plain text: words to the left, counts to the right."""
    lines = [HEADS, *(status.line for status in statuses)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = len(HEADS) - 1
    aligned = (
        [text.ljust(width) if place in (0, last) else text.rjust(width) for place, (text, width) in enumerate(pairs)]
        for pairs in (zip(line, widths, strict=True) for line in lines)
    )
    return "".join(f"{'  '.join(line).rstrip()}\n" for line in aligned)


def read_table(path: Path, needed: Iterable[str] = ()) -> pd.DataFrame | None:
    """A CSV file as the text that stands in it, or None when it is absent.

    Raises:
        InputError: it is there and not a table, or lacks a column.
    """
    return read_whole(path, needed, "delete it and run again") if path.is_file() else None


def printed_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Of a filled table, as text, the rows that print a value; ``filled`` says whether there is one of ours."""
    printed = frame[(frame["role"] == "published") & (frame["value"] != "")]
    return printed.assign(filled=pd.to_numeric(printed["reproduced"], errors="coerce").notna())


def run_config(results: str | os.PathLike | None = None) -> dict[str, Any]:
    """The config that a run has left in its folder; of a run that has not, config.yaml's.

    Raises:
        InputError: it is not YAML, or config.yaml is not valid.
    """
    own = Path(results or "") / "config.yaml"
    return _read_yaml(own) if results is not None and own.is_file() else load(_read_yaml(REPOSITORY / "config.yaml"))


def papers_of(config: Mapping[str, Any]) -> list[Paper]:
    """The papers that a config names: by their folder in papers/, or by a path."""
    return [read_paper(PAPERS / name if re.fullmatch(r"\w+", name) else name) for name in config.get("papers") or ()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how far a run takes each paper."""
    parser = argparse.ArgumentParser(prog="python -m relmap.evidence.status", description=main.__doc__)
    parser.add_argument("results", nargs="?", type=Path, help="the run's folder; config.yaml's run by default")
    results = parser.parse_args(arguments).results
    sys.path.append(str(REPOSITORY))  # files of papers import one another, as in the workflow's jobs
    try:
        if results is None:
            results = Path("results", run_config()["run"])
        elif not results.is_dir():
            raise InputError(f"{results}: no such folder; run the workflow first, or leave the folder out")
        config = run_config(results)
        statuses = status_of(results, config, papers_of(config))
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{results}\n\n{as_text(statuses)}", end="")


def _status(paper: Paper, rows: Rows, config: Mapping[str, Any], datasets: Sequence[str], results: Path) -> Status:
    known = replace(rows, networks=paper.networks)
    models = configured_models(rows, config)
    lacking: Counter[str] = Counter()
    filled = 0
    for number in paper.tables:
        printed = published(paper, number, rows)
        wanted = cells(printed[printed["value"] != ""])
        lacking.update(first_lacking(cell, known, datasets, models) for cell in wanted)
        filled += _filled(results / "tables" / f"{paper.id}_table{number}.csv")
    count = lacking.total()
    fillable = lacking.pop("", 0)
    numbers = [figure["number"] for figure in paper.figures if not figure.get("schematic")]
    drawn = sum((results / "figures" / f"{paper.id}_figure{number:02}.png").is_file() for number in numbers)
    claims = _claims(paper, results)
    return Status(
        paper.id, paper.short, count, fillable, filled, drawn, len(numbers), *claims, tuple(lacking.most_common())
    )


def _filled(path: Path) -> int:
    frame = read_table(path, ["role", "value", "reproduced"])
    return 0 if frame is None else int(printed_cells(frame)["filled"].sum())


def _claims(paper: Paper, results: Path) -> tuple[int, int]:
    """How many claims are decided, and how many there are."""
    verdicts = read_table(results / "tables" / f"{paper.id}_claims.csv", ["verdict"])
    if verdicts is not None:
        return int(verdicts["verdict"].isin(DECIDED).sum()), len(verdicts)
    path = paper.folder / "claims.yaml"
    return 0, len(_read_yaml(path)) if path.is_file() else 0


def _rows(papers: Sequence[Paper], config: Mapping[str, Any], *, checked: bool = True) -> Rows:
    """The catalogue with what all papers and the config's own files add to it."""
    own = (paper.folder / "rows.py" for paper in papers)
    files = [*(path for path in own if path.is_file()), *map(Path, config.get("extensions") or ())]
    try:
        rows = load_rows({path.resolve(): path for path in files}.values(), config, checked=checked)
        return as_configured(rows, config)
    except KeyError as error:
        raise InputError(f"the run's config.yaml: lacks the key {error}; delete it and run again") from error


def _read_yaml(path: Path) -> Any:
    return read_yaml(path, "mend it, or delete it and run again") or {}


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


if __name__ == "__main__":
    main()
