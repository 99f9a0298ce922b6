"""What jobs ask a scheduler for, from what jobs like them took: memory, minutes and threads.

Snakemake writes a benchmark of each job. This makes a table of a run's, one line a rule, with the sizes that its
jobs worked on; the rules read what they ask for from that table. To remake a run's lines, others stay::

    python -m relmap.job.resources results/demo resources/measured.csv

A line of no job is a guess, and goes when its rule was measured. Snakemake looks at a job every half second at first,
every half minute later, so that what happened last may be missing: headroom is for that too.

Memory of jobs with a network grows with what of a batch the network holds at once, not with the number of images; that
of jobs that read tables with the images. Time grows with images, their pixels and epochs. It does not grow with a
network's width: wide networks are for GPUs, which are faster by more.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from relmap.catalogue.datasets import DATASETS, DataSet
from relmap.errors import InputError
from relmap.job.files import atomic_path

COLUMNS = ("run", "rule", "jobs", "load", "seconds", "cpu_seconds", "peak_mb", "images", "work", "frame")
IMPORTED_MB = 450.0
"""Of a job's memory, what its imports take, whatever the size."""
SNAKEMAKE_MB = 150.0
"""On a cluster Snakemake itself runs beside its job."""
MB_PER_FRAME_PIXEL = 0.0022
"""Of pixels in a batch times the network's width: 128 photographs at 224 pixels took 4.2 GB with 16 in a batch, 9.5 GB
with 64 (docs/own_data.md), when the published ResNet-50 was explained."""
MEMORY_HEADROOM, TIME_HEADROOM = 1.5, 4.0
"""Other machines and file systems are slower; memory differs less."""
LEAST_MB, LEAST_MINUTES = 500, 10
UNKNOWN = DataSet("", "", "")
"""Of what neither the config nor the catalogue says how large it is."""
TRAININGS = {"pretrain_classifier": "pretrain", "finetune_classifier": "finetune", "train_multilabel": "multilabel"}


@dataclass(frozen=True)
class Size:
    """What a job works on.

    Attributes:
        images: at most so many.
        work: images times pixels of one, as the network sees it, times epochs where it is trained.
        frame: pixels of a batch, times the network's width.
    """

    images: int
    work: float
    frame: float


def size(
    config: Mapping[str, Any], rule: str, dataset: str | None = None, model: str | None = None, parts: int = 1
) -> Size:
    """The size of a rule's job on a data set with a network; of none in particular, on the largest.

    A job with a network reads the images to test on, one that trains a classifier the others, one of a data set alone
    all of them. Of ``parts`` jobs that divide the work each has its share.
    """
    entries = _entries(config, model)
    pixels = max((entry["input_size"] ** 2 for entry in entries), default=1)
    frame = max((entry["input_size"] ** 2 * entry["width"] for entry in entries), default=1)
    used = {name: entry for name, entry in config["datasets"].items() if entry}
    counts = [images_of(name, entry) for name, entry in used.items() if name == dataset or dataset not in used]
    stage = TRAININGS.get(rule)
    if stage:
        images = max((train for train, _ in counts), default=1)
    elif dataset in used and not model:
        images = max(map(sum, counts))
    else:
        limits = [entry["max_images"] or config["evaluation"]["max_images"] for entry in entries]
        most = None if None in limits else max(limits, default=None)
        images = max((min(test, most or test) for _, test in counts), default=1)
    epochs = max((_epochs(config, entry, stage) for entry in entries), default=1) if stage else 1
    images = math.ceil(images / parts)
    return Size(images, float(images * pixels * epochs), float(frame * config["compute"]["batch_size"]))


def _entries(config: Mapping[str, Any], model: str | None) -> list[Mapping[str, Any]]:
    """A network's settings; of one of several trainings, their model's; of all where none is named."""
    models = {name: entry for name, entry in config["models"].items() if entry}
    name = model if model in models else re.sub(r"_\d+$", "", model or "")
    return [models[name]] if name in models else list(models.values())


def _epochs(config: Mapping[str, Any], entry: Mapping[str, Any], stage: str) -> int:
    return (entry.get(stage) or {}).get("epochs") or config["training"][stage]["epochs"]


def images_of(dataset: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    """How many images a data set has to train on and to test on: as the config has it rendered, else as published."""
    if entry["source"] != "render":
        return DATASETS.get(entry.get("format") or dataset, DATASETS.get(dataset, UNKNOWN)).size
    render = {name: value for name, value in entry["render"].items() if isinstance(value, int) and name != "size"}
    classes = render.pop("classes", 1)
    counts = {name: value * (classes if name.endswith("per_class") else 1) for name, value in render.items()}
    train = sum(value for name, value in counts.items() if name.startswith("train"))
    return train, sum(counts.values()) - train


class Measured:
    """The table: what jobs took, and what one of another size needs."""

    def __init__(self, lines: Iterable[Mapping[str, str]]) -> None:
        self.lines: dict[str, list[dict[str, float]]] = {}
        for line in lines:
            numbers = {name: float(line[name]) for name in COLUMNS[2:]}
            # What it takes on a core of its own: other jobs of that machine lengthen seconds, threads shorten them.
            numbers["alone"] = min(numbers["seconds"], numbers["cpu_seconds"] or numbers["seconds"])
            self.lines.setdefault(line["rule"], []).append(numbers)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Measured:
        """From a file."""
        return cls(read_table(path))

    def threads(self, rule: str) -> int:
        """As many as its jobs kept busy."""
        return max([1, *(round(line["load"] / 100) for line in self._of(rule))])

    def memory_mb(self, rule: str, job: Size, by: str = "frame") -> int:
        """MB for a job; ``by`` says what memory grows with: ``frame``, ``images`` or ``nothing``."""
        if by == "nothing":
            need = max(line["peak_mb"] for line in self._of(rule))
        elif by == "images":
            line = _nearest(self._of(rule), "images", job.images)
            grown = max(0.0, line["peak_mb"] - IMPORTED_MB) * max(1.0, job.images / line["images"])
            need = max(line["peak_mb"], IMPORTED_MB + grown)
        else:
            line = _nearest(self._of(rule), "frame", job.frame)
            need = line["peak_mb"] + MB_PER_FRAME_PIXEL * max(0.0, job.frame - line["frame"])
        return max(LEAST_MB, math.ceil((need + SNAKEMAKE_MB) * MEMORY_HEADROOM / 100) * 100)

    def minutes(self, rule: str, job: Size, by: str = "work") -> int:
        """Minutes for a job; ``by`` says what time grows with: ``work``, ``images`` or ``nothing``."""
        if by == "nothing":
            seconds = max(line["alone"] for line in self._of(rule))
        else:
            line = _nearest(self._of(rule), by, getattr(job, by))
            seconds = line["alone"] * max(1.0, getattr(job, by) / line[by])
        return max(LEAST_MINUTES, math.ceil(seconds * TIME_HEADROOM / 60))

    def _of(self, rule: str) -> list[dict[str, float]]:
        if rule not in self.lines:
            raise InputError(
                f"resources/measured.csv: no line of {rule}; run it and add its run's: "
                "python -m relmap.job.resources results/<run> resources/measured.csv"
            )
        return self.lines[rule]


def _nearest(lines: Sequence[dict[str, float]], by: str, wanted: float) -> dict[str, float]:
    """The smallest that was measured of those at least as large; where none is, the largest."""
    enough = [line for line in lines if line[by] >= wanted]
    return min(enough, key=lambda line: line[by]) if enough else max(lines, key=lambda line: line[by])


def read_table(path: str | os.PathLike) -> list[dict[str, str]]:
    """Lines of a table of measurements; of none, no line."""
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure(results: str | os.PathLike) -> list[dict[str, str]]:
    """One line a rule of a run, from its benchmarks and its config.

    Raises:
        InputError: the run has no config or no benchmark.
    """
    results = Path(results)
    written = results / "config.yaml"
    if not written.is_file():
        raise InputError(f"{results}: no config.yaml; name the folder of a run that has ended, results/<run>")
    config = yaml.safe_load(written.read_text(encoding="utf-8"))
    jobs: dict[str, list[tuple[dict[str, float], Size]]] = {}
    for path in sorted([*results.glob("benchmarks/**/*.tsv"), *results.glob("parts/*/benchmarks/**/*.tsv")]):
        above, _, below = path.relative_to(results).with_suffix("").as_posix().partition("benchmarks/")
        rule, *place = below.split("/")
        # The share of a job is in its path: parts/3-of-8/benchmarks/...
        parts = int(above.rstrip("/").rpartition("-")[2] or 1)
        # The places of a job: its data set and network, each where it has one.
        dataset = next((part for part in place if config["datasets"].get(part)), None)
        model = next((part for part in place if part != dataset and _names_model(config, part)), None)
        with open(path, newline="", encoding="utf-8") as file:
            taken = [
                {name: _number(value) for name, value in row.items()} for row in csv.DictReader(file, delimiter="\t")
            ]
        jobs.setdefault(rule, []).extend((row, size(config, rule, dataset, model, parts)) for row in taken)
    if not jobs:
        raise InputError(f"{results}: no benchmarks; name the folder of a run, results/<run>")
    return [_line(str(config["run"]), rule, found) for rule, found in sorted(jobs.items())]


def _names_model(config: Mapping[str, Any], part: str) -> bool:
    return bool(config["models"].get(part) or config["models"].get(re.sub(r"_\d+$", "", part)))


def _number(text: str | None) -> float:
    """Of what Snakemake could not measure, because the job was too short: 0."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _line(run: str, rule: str, jobs: Sequence[tuple[dict[str, float], Size]]) -> dict[str, str]:
    """The most that any job took, and the most that any worked on."""
    taken, sizes = zip(*jobs, strict=True)
    values = (
        *(run, rule, len(jobs), round(max(row["mean_load"] for row in taken))),
        *(round(max(row[name] for row in taken), 1) for name in ("s", "cpu_time")),
        round(max(row["max_rss"] for row in taken)),
        *(int(max(getattr(one, name) for one in sizes)) for name in ("images", "work", "frame")),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def table_text(lines: Iterable[Mapping[str, str]]) -> str:
    """The table as CSV, by rule and run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(lines, key=lambda line: (line["rule"], line["run"])))
    return text.getvalue()


def _replaced(line: Mapping[str, str], run: str) -> bool:
    """Whether a line makes room for a measured one of its rule: the same run's, or a guess, which is of no job."""
    return line["run"] == run or line["jobs"] == "0"


def main(arguments: Sequence[str]) -> None:
    """Remake a run's lines of a table."""
    if len(arguments) != 2:
        sys.exit("usage: python -m relmap.job.resources results/<run> resources/measured.csv")
    results, table = arguments
    try:
        measured = measure(results)
    except InputError as error:
        sys.exit(f"error: {error}")
    rules = {line["rule"] for line in measured}
    kept = [line for line in read_table(table) if line["rule"] not in rules or not _replaced(line, measured[0]["run"])]
    with atomic_path(table) as temporary:
        temporary.write_text(table_text([*kept, *measured]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
