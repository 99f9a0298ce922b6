"""``relmap plan`` and ``relmap status``: what a run would do and cost, and how far one is."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from relmap.cli.repository import repository
from relmap.cli.tables import aligned
from relmap.errors import InputError

BETWEEN_SECONDS = 0.25
"""From the end of a job to the beginning of the next one, on one machine."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--configfile", type=click.Path(path_type=Path), metavar="FILE", help="As of snakemake; config.yaml by default."
)
@click.option("--config", "settings", multiple=True, metavar="KEY=VALUE", help="As of snakemake; may be repeated.")
@click.option(
    "--cores", type=click.IntRange(1), default=os.cpu_count(), help="Of all workers; this machine's by default."
)
@click.option("--gpus", type=click.IntRange(0), default=0, help="How many of the workers have a GPU.")
@click.option("--teraflops", type=float, default=6.0, show_default=True, help="What a GPU does in a second, as used.")
@click.option("--anew", is_flag=True, help="All jobs, also those that are done.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("targets", nargs=-1)
def plan(
    configfile: Path | None,
    settings: Sequence[str],
    cores: int,
    gpus: int,
    teraflops: float,
    anew: bool,
    as_json: bool,
    targets: Sequence[str],
) -> None:
    """Say what a run would do and cost: jobs, hours of a core, disk, time. Nothing is run.

    TARGETS are rules or files, as of snakemake; everything by default.

    \b
      relmap plan
      relmap plan --configfile config/paper.yaml --config 'papers=[clam]' --cores 16 --gpus 1
      relmap plan leaderboard

    Hours are from what the jobs of measured runs took (resources/measured.csv), scaled by images, pixels, passes and
    the width of the network; those of a GPU from counted operations, at --teraflops: by default a third of what an
    A100 does in single precision at its best.
    """
    if configfile is not None and not configfile.is_file():
        raise InputError(f"{configfile}: no such file; correct --configfile")
    root, here = repository(), Path.cwd()
    with contextlib.chdir(root):  # as the workflow, which reads paths of a config from there
        configfile = None if configfile is None else here / configfile
        config = config_of_run(root, configfile, settings)
        counts = {status.short: (status.printed, status.fillable) for status in _planned(root, config)}
    cells = {name: {"printed": printed, "fillable": fillable} for name, (printed, fillable) in counts.items()}
    found = costs_of(
        root,
        config,
        configfile,
        targets,
        settings=settings,
        cores=cores,
        gpus=gpus,
        throughput=teraflops * 1e12,
        anew=anew,
    )
    click.echo(
        json.dumps({**found, "cells": cells}, indent=2) if as_json else _as_text(found, cells, cores, gpus), nl=as_json
    )


def costs_of(
    root: Path,
    config: Mapping[str, Any],
    configfile: Path | None,
    targets: Sequence[str] = (),
    *,
    settings: Sequence[str] = (),
    cores: int = 1,
    gpus: int = 0,
    throughput: float = 6e12,
    anew: bool = False,
) -> dict[str, Any]:
    """What a run would do and cost.

    Returns:
        Jobs by rule and their hours, the stores of maps that they make, hours of a core and of a GPU, bytes that stay
        and bytes that are retrieved, seconds on so many cores, in MB the memory of the largest job and of a GPU, and
        how many jobs nothing that was measured is like.
    """
    from relmap.job.costs import Costs, gpu_memory_mb, wall_seconds
    from relmap.job.listing import jobs_of

    jobs = jobs_of(root, configfile, targets, cores=cores, settings=settings, anew=anew)
    measured = Costs.read(root / "resources", throughput=throughput)
    costs = [measured.of(job, config) for job in jobs]
    on_gpu = [bool(gpus and job.network) for job in jobs]
    taken = [
        cost.gpu_seconds if gpu else cost.seconds / job.threads
        for job, cost, gpu in zip(jobs, costs, on_gpu, strict=True)
    ]
    rules: dict[str, dict[str, float]] = {}
    for job, cost, gpu in zip(jobs, costs, on_gpu, strict=True):
        line = rules.setdefault(job.kind, {"jobs": 0, "core_hours": 0.0, "gpu_hours": 0.0, "bytes": 0.0})
        line["jobs"] += 1
        line["gpu_hours" if gpu else "core_hours"] += (cost.gpu_seconds if gpu else cost.seconds) / 3600
        line["bytes"] += cost.bytes
    return {
        "rules": rules,
        "jobs": len(jobs),
        "stores": sum(path.endswith(".zarr") and "/maps/" in path for job in jobs for path in job.outputs),
        "core_hours": sum(line["core_hours"] for line in rules.values()),
        "gpu_hours": sum(line["gpu_hours"] for line in rules.values()),
        "bytes": sum(line["bytes"] for line in rules.values()),
        "retrieved_bytes": rules.get("retrieve_file", {"bytes": 0.0})["bytes"],
        "seconds": wall_seconds(jobs, taken, cores, gpus=gpus, between=BETWEEN_SECONDS),
        "memory_mb": max((job.memory_mb for job in jobs), default=0),
        "gpu_memory_mb": max((gpu_memory_mb(job, config) for job in jobs if job.network), default=0),
        "unmeasured": sum(not cost.source for cost in costs),
    }


def _as_text(found: Mapping[str, Any], cells: Mapping[str, Mapping[str, int]], cores: int, gpus: int) -> str:
    """For a terminal."""
    printed, fillable = (sum(each[name] for each in cells.values()) for name in ("printed", "fillable"))
    filled = f"{fillable} of {printed} printed cells of the run's papers can be filled\n"
    if not found["jobs"]:
        return f"Nothing to do.\n{filled}"
    hours = ("core_hours", "gpu_hours") if gpus else ("core_hours",)
    lines = [("rule", "jobs", *(name.replace("_", " ") for name in hours), "disk")]
    for rule, line in sorted(found["rules"].items(), key=lambda item: (-sum(item[1][name] for name in hours), item[0])):
        lines.append((rule, f"{line['jobs']:g}", *(f"{line[name]:.2f}" for name in hours), _size(line["bytes"])))
    on = f"{cores} core{'s' * (cores > 1)}" + (f" and {gpus} GPU{'s' * (gpus > 1)}" if gpus else "")
    total = " and ".join(f"{found[name]:.1f} {name.replace('_', ' ')}" for name in hours)
    said = [
        aligned(lines, right=range(1, len(lines[0]))).rstrip(),
        f"{found['jobs']} jobs, {found['stores']} of their files stores of maps: {total}; "
        f"about {_time(found['seconds'])} on {on}",
        f"{_size(found['bytes'])} of disk, {_size(found['retrieved_bytes'])} of it retrieved; "
        f"the largest job asks for {_size(1e6 * found['memory_mb'])} of memory",
    ]
    if gpus:
        said.append(
            "Estimated, for no GPU was measured: hours of a GPU, from counted operations; "
            f"{_size(1e6 * found['gpu_memory_mb'])} of its memory, from that of a CPU"
        )
    if found["unmeasured"]:
        said.append(f"{found['unmeasured']} jobs are counted as a few seconds, for none like them was measured.")
    return "\n".join([*said, filled])


def _size(count: float) -> str:
    """Bytes for readers."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _time(seconds: float) -> str:
    """Seconds for readers."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}" if seconds >= 10 * length else f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _planned(root: Path, config: Mapping[str, Any]) -> list[Any]:
    """The papers of a config."""
    from relmap.evidence.status import papers_of, status_of

    papers = papers_of(config)
    ids = {paper.id for paper in papers}
    _let_papers_import(root)
    return [status for status in status_of(root / "results" / config["run"], config, papers) if status.id in ids]


def config_of_run(root: Path, configfile: Path | None, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The config that a run has: config.yaml, then a file, then settings, as Snakemake puts them together."""
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
    for setting in settings:
        if "=" not in setting:
            raise InputError(f"--config {setting}: not KEY=VALUE")
    if settings:
        from snakemake.cli import parse_config

        update_config(config, parse_config(list(settings)))
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
