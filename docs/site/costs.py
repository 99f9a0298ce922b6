"""The table of what each paper's full run costs, in README.md between its marks.

``python docs/site/costs.py README.md`` writes it, from ``relmap plan`` of each paper; a test compares a line.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from relmap.catalogue.papers import read_papers
from relmap.cli.repository import repository
from relmap.cli.runs import config_of_run, costs_of

CONFIG, CORES, TERAFLOPS = Path("config/paper.yaml"), 16, 6
HEAD = (
    "| paper, by this command | retrieved | disk | hours of a GPU | its memory | other core hours |",
    "|---|---|---|---|---|---|",
)


def line(paper: str) -> str:
    """A paper's, as Markdown."""
    root = repository()
    settings = [f"run={paper}", f"papers=[{paper}]"]
    found = costs_of(
        root,
        config_of_run(root, CONFIG, settings),
        root / CONFIG,
        settings=settings,
        cores=CORES,
        gpus=1,
        throughput=TERAFLOPS * 1e12,
        anew=True,
    )
    columns = (
        f"`.venv/bin/snakemake --cores all --configfile {CONFIG} --config run={paper} 'papers=[{paper}]'`",
        f"{found['retrieved_bytes'] / 1e9:.0f} GB",
        f"{found['bytes'] / 1e9:.0f} GB",
        f"{found['gpu_hours']:.0f}",
        f"{found['gpu_memory_mb'] / 1e3:.0f} GB",
        f"{found['core_hours']:.0f}",
    )
    return f"| {' | '.join(columns)} |"


def main(page: str) -> None:
    """Write the table into a page."""
    path = Path(page)
    ids = [paper.id for paper in read_papers(repository() / "papers")]
    table = "\n".join((*HEAD, *map(line, ids)))
    text = path.read_text(encoding="utf-8")
    made = re.sub(
        r"(<!-- costs -->\n).*?(<!-- /costs -->)", lambda marks: f"{marks[1]}\n{table}\n\n{marks[2]}", text, flags=re.S
    )
    path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
