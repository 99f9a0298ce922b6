"""Tables 1 to 4: published beside ours, as CSV, Markdown and LaTeX."""

from pathlib import Path

from relmap.evidence.tables import fill, load_scores, read_published, write_table
from relmap.job.logs import job

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    scores = load_scores([*given.pointing, *given.lerf, *given.segmentation])
    for published, output in zip(given.published, snakemake.output.csv, strict=True):
        table = fill(read_published(published), scores, params.confidence, params.resamples, params.seed)
        write_table(table, output, f"CLAM, Table {Path(published).stem.removeprefix('table')}")
