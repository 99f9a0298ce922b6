"""What the jobs of a run took, as the tables that later runs are planned by.

Run it where the run was made, when it has ended and nothing else was at work::

    python -m relmap.job.measuring results/demo resources

It replaces that run's lines of ``measured.csv``, and ``methods.csv`` where the run measured what methods cost.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from relmap.errors import InputError
from relmap.job.costs import Scale, repeats_of, work_of
from relmap.job.files import atomic_path
from relmap.job.listing import Job, jobs_of
from relmap.job.resources import COLUMNS, GUESS, read_table
from relmap.job.sizes import place_of, size

METHOD_COLUMNS = ("method", "passes", "operations", "repeats")


def measure(results: str | os.PathLike, jobs: Iterable[Job], scale: Scale) -> list[dict[str, str]]:
    """One line a job of a run that has a benchmark.

    Args:
        results: the run's folder.
        jobs: all of the run's, as ``listing.jobs_of`` with ``anew`` gives them.
        scale: what passes cost.

    Raises:
        InputError: the run has no config or no benchmark.
    """
    results, config = Path(results), config_of(results)
    lines = []
    for job in jobs:
        share = "" if job.parts == 1 else job.outputs[0].partition("/parts/")[2].partition("/")[0]
        path = results / (f"parts/{share}" if share else "") / "benchmarks" / job.kind / job.place
        path = path.parent / f"{path.name}.tsv"
        if not path.is_file():
            continue
        with open(path, newline="", encoding="utf-8") as file:
            taken = [_numbers(row) for row in csv.DictReader(file, delimiter="\t")][-1]
        sized, work = size(config, job.kind, *place_of(config, job.place), job.parts), work_of(job, config, scale)
        values = (
            *(config["run"], job.kind, job.place, round(taken["mean_load"])),
            *(round(taken["s"], 1), round(taken["cpu_time"], 1), round(taken["max_rss"])),
            *(sized.images, round(sized.work), round(sized.frame)),
            *(f"{work.effort:.4g}", f"{work.extent:.4g}", sum(_bytes(results, file) for file in job.outputs)),
        )
        lines.append(dict(zip(COLUMNS, map(str, values), strict=True)))
    if not lines:
        raise InputError(f"{results}: no benchmarks; name the folder of a run that has ended, results/<run>")
    return lines


def config_of(results: Path) -> dict[str, Any]:
    """A run's config.

    Raises:
        InputError: it has none.
    """
    written = results / "config.yaml"
    if not written.is_file():
        raise InputError(f"{results}: no config.yaml; name the folder of a run that has ended, results/<run>")
    return yaml.safe_load(written.read_text(encoding="utf-8"))


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    """Of what Snakemake could not measure, because the job was too short: 0."""
    found = {}
    for name, text in row.items():
        try:
            found[name] = float(text or 0)
        except ValueError:
            found[name] = 0.0
    return found


def _bytes(results: Path, file: str) -> int:
    """What a file, or a folder's files, take; of what did not stay, nothing."""
    path = results.parent.parent / file
    if path.is_dir():
        return sum(below.stat().st_size for below in path.rglob("*") if below.is_file())
    return path.stat().st_size if path.is_file() else 0


def methods_of(results: str | os.PathLike) -> list[dict[str, str]]:
    """What methods cost, from a run's table: passes by time and by operations, and its settings' repeats."""
    path = Path(results) / "tables" / "cost.csv"
    if not path.is_file():
        return []
    explainers = config_of(Path(results))["explainers"]
    with open(path, newline="", encoding="utf-8") as file:
        found = {line["method"]: line for line in csv.DictReader(file)}
    return [
        {
            "method": method,
            "passes": f"{float(line['forwards']):.4g}",
            "operations": f"{float(line['forward_equivalents']):.4g}",
            "repeats": f"{repeats_of(explainers.get(method)):g}",
        }
        for method, line in sorted(found.items())
    ]


def table_text(columns: Sequence[str], lines: Iterable[Mapping[str, str]]) -> str:
    """Lines as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def main(arguments: Sequence[str]) -> None:
    """Remake a run's lines."""
    if len(arguments) != 2:
        sys.exit("usage: python -m relmap.job.measuring results/<run> resources")
    results, folder = map(Path, arguments)
    table = folder / "measured.csv"
    try:
        methods = methods_of(results)
        if methods:
            with atomic_path(folder / "methods.csv") as temporary:
                temporary.write_text(table_text(METHOD_COLUMNS, methods), encoding="utf-8")
        root = results.resolve().parents[1]
        config_of(results)
        jobs = jobs_of(root, results / "config.yaml", anew=True)
        measured = measure(results, jobs, Scale.read(folder))
    except InputError as error:
        sys.exit(f"error: {error}")
    rules = {line["rule"] for line in measured}
    run = measured[0]["run"]
    kept = [
        line
        for line in read_table(table)
        if line["run"] != run and not (line["run"] == GUESS and line["rule"] in rules)
    ]
    lines = sorted([*kept, *measured], key=lambda line: (line["rule"], line["run"], line["place"]))
    with atomic_path(table) as temporary:
        temporary.write_text(table_text(COLUMNS, lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
