"""What jobs ask a scheduler for, from what jobs like them took: memory, minutes and threads.

Snakemake writes a benchmark of each job. ``relmap.job.measuring`` makes a table of a run's, a job a line, with the
sizes that they worked on; rules read what they ask for from it, and ``relmap plan`` what a run costs
(``relmap.job.costs``). To remake a run's lines, where it was made, others stay::

    python -m relmap.job.measuring results/demo resources

A line of the run ``guess`` is no job's, and goes when its rule was measured. Snakemake looks at a job every half
second at first, every half minute later, so that what happened last may be missing: headroom is for that too.

Memory of jobs with a network grows with what of a batch the network holds at once, not with the number of images; that
of jobs that read tables with the images. Time grows with images, their pixels and epochs. What jobs ask for does not
grow with a network's width: wide networks are for GPUs, which are faster by more.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence

from relmap.errors import InputError
from relmap.job.sizes import Size

COLUMNS = (
    *("run", "rule", "place", "load", "seconds", "cpu_seconds", "peak_mb"),
    *("images", "work", "frame", "effort", "extent", "bytes"),
)
GUESS = "guess"
OF_IMAGES = frozenset(
    {
        "build_manifest",
        "compare_ties",
        "count_masks",
        "decide",
        "draw",
        "gather_maps",
        "gather_scores",
        "lay_out",
        "pack_gallery",
        "rank_methods",
        "render_dataset",
        "render_gallery",
        "render_leaderboard",
        "render_minimal_pairs",
        "render_training",
        "tabulate",
        "tabulate_accuracies",
        "tabulate_attributes",
        "tabulate_classes",
        "tabulate_controls",
        "threshold_grids",
        "write_report",
    }
)
"""Rules whose jobs grow with the images, for they ask no network."""
OF_NOTHING = frozenset(
    {
        "explain_patches",
        "explain_sentences",
        "explain_toys",
        "measure_price",
        "record_provenance",
        "train_sentiment",
        "write_config",
    }
)
"""Rules whose jobs are the same at every size."""
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


class Measured:
    """The table: what jobs took, and what one of another size needs."""

    def __init__(self, lines: Iterable[Mapping[str, str]]) -> None:
        runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        for line in lines:
            numbers = {name: float(line[name]) for name in COLUMNS[3:]}
            # What it takes on a core of its own: other jobs of that machine lengthen seconds, threads shorten them.
            numbers["alone"] = min(numbers["seconds"], numbers["cpu_seconds"] or numbers["seconds"])
            runs.setdefault((line["rule"], line["run"]), []).append(numbers)
        # Of a rule in a run the most that any job took, and the most that any worked on.
        self.lines: dict[str, list[dict[str, float]]] = {}
        for (rule, _), jobs in runs.items():
            self.lines.setdefault(rule, []).append({name: max(job[name] for job in jobs) for name in jobs[0]})

    @classmethod
    def read(cls, path: str | os.PathLike) -> Measured:
        """From a file."""
        return cls(read_table(path))

    def threads(self, rule: str) -> int:
        """As many as its jobs kept busy."""
        return max([1, *(round(line["load"] / 100) for line in self._of(rule))])

    def memory_mb(self, rule: str, job: Size) -> int:
        """MB for a job."""
        if rule in OF_NOTHING:
            need = max(line["peak_mb"] for line in self._of(rule))
        elif rule in OF_IMAGES:
            line = _nearest(self._of(rule), "images", job.images)
            grown = max(0.0, line["peak_mb"] - IMPORTED_MB) * max(1.0, job.images / line["images"])
            need = max(line["peak_mb"], IMPORTED_MB + grown)
        else:
            line = _nearest(self._of(rule), "frame", job.frame)
            need = line["peak_mb"] + MB_PER_FRAME_PIXEL * max(0.0, job.frame - line["frame"])
        return max(LEAST_MB, math.ceil((need + SNAKEMAKE_MB) * MEMORY_HEADROOM / 100) * 100)

    def minutes(self, rule: str, job: Size) -> int:
        """Minutes for a job."""
        if rule in OF_NOTHING:
            seconds = max(line["alone"] for line in self._of(rule))
        else:
            by = "images" if rule in OF_IMAGES else "work"
            line = _nearest(self._of(rule), by, getattr(job, by))
            seconds = line["alone"] * max(1.0, getattr(job, by) / line[by])
        return max(LEAST_MINUTES, math.ceil(seconds * TIME_HEADROOM / 60))

    def _of(self, rule: str) -> list[dict[str, float]]:
        if rule not in self.lines:
            raise InputError(
                f"resources/measured.csv: no line of {rule}; run it and add its run's: "
                "python -m relmap.job.measuring results/<run> resources"
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
