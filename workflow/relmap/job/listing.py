"""The jobs of a run, as Snakemake's dry run tells them to a log handler; nothing is run.

The events that Snakemake documents for its logger plugins name a job's files, threads and resources. The dry run is a
process of its own, for Snakemake sets up logging and working directories for good::

    python -m relmap.job.listing FILE [arguments of snakemake]   # writes FILE, a job a line in JSON
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from relmap.errors import InputError


@dataclass(frozen=True)
class Job:
    """One that a run would do.

    Attributes:
        rule: its name, that of one of several rules of a kind (``attribute_imagenet_vgg16``).
        kind: its rules' common name (``attribute``), and ``place``, the rest of its benchmark's path
            (``imagenet/vgg16/plain``); of a job without a benchmark the rule's name and nothing.
        parts: of so many jobs that divide the work it is one.
        inputs, outputs: paths.
        threads: at most the cores that the dry run was told of.
        network: whether it asks for GPUs where there are any.
        memory_mb: what it asks for.
    """

    rule: str
    kind: str
    place: str
    parts: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    threads: int
    network: bool
    memory_mb: int


def jobs_of(
    root: str | os.PathLike,
    configfile: str | os.PathLike | None = None,
    targets: Sequence[str] = (),
    *,
    cores: int = 1,
    settings: Sequence[str] = (),
    anew: bool = False,
) -> list[Job]:
    """The jobs that a run would do, in no particular order.

    Args:
        root: the repository.
        configfile: as of snakemake; ``config.yaml`` alone by default.
        targets: rules or files; all by default.
        cores: of the machine.
        settings: ``KEY=VALUE``, as of ``snakemake --config``.
        anew: all jobs, also those whose files are there.

    Raises:
        InputError: what Snakemake objects to.
    """
    root = Path(root)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "jobs.jsonl"
        command = [sys.executable, "-m", "relmap.job.listing", str(written), "--snakefile", str(root / "Snakefile")]
        command += ["--dry-run", "--nocolor", "--cores", str(cores)]
        if configfile is not None:
            command += ["--configfile", str(Path(configfile).resolve())]
        if settings:
            command += ["--config", *settings]
        if anew:
            command.append("--forceall")
        paths = [str(root / "workflow"), os.environ.get("PYTHONPATH", "")]
        run = subprocess.run(
            [*command, *(["--", *targets] if targets else [])],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        if run.returncode:
            lines = [line.strip() for line in f"{run.stderr}\n{run.stdout}".splitlines() if line.strip()]
            told = next((line for line in lines if line.startswith("error: ")), (lines or ["it says nothing"])[-1])
            raise InputError(f"snakemake cannot plan this: {told.removeprefix('error: ')}")
        return read_jobs(written.read_text(encoding="utf-8"))


def read_jobs(text: str) -> list[Job]:
    """Jobs from the lines that were written of them."""
    made = []
    for line in text.splitlines():
        given = json.loads(line)
        made.append(Job(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}))
    return made


class _Listener(logging.Handler):
    """Keeps each job that Snakemake tells of."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if getattr(event, "value", event) != "job_info":
            return
        told = record.__dict__
        resources = dict(told["resources"].items())
        kind, place, parts = _place(told["rule_name"], told["benchmark"])
        self.jobs[told["jobid"]] = Job(
            rule=told["rule_name"],
            kind=kind,
            place=place,
            parts=parts,
            inputs=tuple(map(_path, told["input"] or ())),
            outputs=tuple(map(_path, told["output"] or ())),
            threads=int(told["threads"]),
            network="gpu" in resources,
            memory_mb=int(resources.get("mem_mb") or 0),
        )


def _path(told: object) -> str:
    """A file's path without what Snakemake adds in words, as ``(update)``."""
    return str(told).removesuffix(" (update)").removesuffix(" (send to storage)")


def _place(rule: str, benchmark: str | None) -> tuple[str, str, int]:
    """Kind, place and share, from a benchmark: results/demo/parts/3-of-8/benchmarks/score/voc2007/vgg16/gae.tsv."""
    if not benchmark:
        return rule, "", 1
    above, _, below = str(benchmark).removesuffix(".tsv").partition("/benchmarks/")
    kind, _, place = below.partition("/")
    _, found, share = above.partition("/parts/")
    return kind, place, int(share.rpartition("-")[2]) if found else 1


def main(arguments: Sequence[str]) -> None:
    """Dry run, and write the jobs."""
    from snakemake.cli import main as snakemake

    listener = _Listener()
    # Snakemake removes the handlers of its own logger; records reach those above it.
    logging.getLogger("snakemake").addHandler(listener)
    target, *given = arguments
    try:
        snakemake(given)
    except SystemExit as ended:
        if ended.code:
            raise
    lines = [json.dumps(asdict(job)) for job in listener.jobs.values() if job.rule != "all"]
    Path(target).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
