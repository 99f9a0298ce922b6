"""``relmap plan`` and ``relmap status``: what a run would do, and how far one is."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from relmap.cli.repository import repository
from relmap.cli.tables import aligned
from relmap.errors import InputError

_STATS = re.compile(r"^Job stats:\njob +count\n-+ +-+\n((?:\w+ +\d+\n)+)", re.MULTILINE)
_MISSING = re.compile(r"Missing output files: ([^;\n]*)")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--configfile", type=click.Path(path_type=Path), metavar="FILE", help="As of snakemake; config.yaml by default."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("targets", nargs=-1)
def plan(configfile: Path | None, as_json: bool, targets: Sequence[str]) -> None:
    """Say what a run would do: jobs by rule, stores of maps, cells of tables. Nothing is run.

    TARGETS are rules or files, as of snakemake; everything by default.

    \b
      relmap plan
      relmap plan --configfile config/paper.yaml
      relmap plan leaderboard
    """
    root, here = repository(), Path.cwd()
    jobs, stores = planned_jobs(dry_run(root, configfile, targets))
    with contextlib.chdir(root):  # as the workflow, which reads paths of a config from there
        statuses = _planned(root, None if configfile is None else here / configfile)
    cells = {status.short: (status.printed, status.fillable) for status in statuses}
    if as_json:
        both = {name: {"printed": printed, "fillable": fillable} for name, (printed, fillable) in cells.items()}
        click.echo(json.dumps({"jobs": jobs, "stores": stores, "cells": both}, indent=2))
        return
    if jobs:
        click.echo(
            aligned([("rule", "jobs"), *((rule, str(count)) for rule, count in sorted(jobs.items()))], right=(1,))
        )
    click.echo(
        f"{sum(jobs.values())} jobs; {len(stores)} stores of maps are not there yet" if jobs else "Nothing to do."
    )
    fillable = sum(fillable for _, fillable in cells.values())
    click.echo(
        f"{fillable} of {sum(printed for printed, _ in cells.values())} printed cells of the run's papers can be filled"
    )


def planned_jobs(said: str) -> tuple[dict[str, int], list[str]]:
    """Jobs by rule, and the stores of maps that are not there yet, of what a dry run said."""
    stats = _STATS.search(said)
    pairs = [line.split() for line in stats[1].splitlines()] if stats else []
    jobs = {rule: int(count) for rule, count in pairs if rule not in ("total", "all")}
    files = {file for found in _MISSING.findall(said) for file in found.split(", ")}
    return jobs, sorted(file for file in files if "/maps/" in file and file.endswith(".zarr"))


def dry_run(root: Path, configfile: Path | None, targets: Sequence[str]) -> str:
    """What ``snakemake --dry-run`` says.

    Raises:
        InputError: what it objects to.
    """
    if configfile is not None and not configfile.is_file():
        raise InputError(f"{configfile}: no such file; correct --configfile")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--dry-run", "--cores", "1"]
    if configfile is not None:
        command += ["--configfile", str(configfile.resolve())]
    run = subprocess.run([*command, "--nocolor", *targets], cwd=root, capture_output=True, text=True, check=False)
    said = f"{run.stderr}\n{run.stdout}"
    if run.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith("error: ")), (lines or ["it says nothing"])[-1])
        raise InputError(f"snakemake cannot plan this: {told.removeprefix('error: ')}")
    return said


def _planned(root: Path, configfile: Path | None) -> list[Any]:
    """The papers of a config."""
    from relmap.evidence.status import papers_of, status_of

    config = _config(root, configfile)
    papers = papers_of(config)
    ids = {paper.id for paper in papers}
    _let_papers_import(root)
    return [status for status in status_of(root / "results" / config["run"], config, papers) if status.id in ids]


def _config(root: Path, configfile: Path | None) -> dict[str, Any]:
    from snakemake.utils import update_config

    from relmap.job.config import load
    from relmap.job.yaml_files import read_yaml

    config: dict[str, Any] = {}
    for path in (root / "config.yaml", configfile):
        if path is None:
            continue
        found = read_yaml(path, "correct --configfile") or {}
        if not isinstance(found, Mapping):
            raise InputError(f"{path}: holds no keys; see config.yaml")
        update_config(config, found)
    return load(config)


@click.command()
@click.argument("results", required=False, type=click.Path(path_type=Path))
def status(results: Path | None) -> None:
    """Say how far a run takes each paper: cells, figures, claims, and what is missing first.

    RESULTS is a run's folder or its name; that of config.yaml by default.

    \b
      relmap status
      relmap status results/demo
    """
    from relmap.evidence.status import as_text, papers_of, run_config, status_of

    root = repository()
    if results is None:
        results = root / "results" / str(run_config()["run"])
    elif not results.is_dir():
        named = root / "results" / results
        if not named.is_dir():
            raise InputError(f"{results}: no such run; run the workflow first, or leave it out")
        results = named
    config = run_config(results)
    _let_papers_import(root)
    click.echo(f"{results}\n\n{as_text(status_of(results, config, papers_of(config)))}", nl=False)


def _let_papers_import(root: Path) -> None:
    """Files of papers import one another from the repository's root, as in the workflow's jobs."""
    if str(root) not in sys.path:
        sys.path.append(str(root))
