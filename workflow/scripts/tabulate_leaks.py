"""Where every method's relevance leaks, step by step and by kind of operation, as CSV."""

from relmap.inspection.comparison import summarise
from relmap.job.files import atomic_paths
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.spreadsheet import without_formulas

with job(snakemake.log[0]):
    steps = read_parquet(snakemake.input.steps)
    with atomic_paths(snakemake.output.steps, snakemake.output.summary) as paths:
        for frame, path in zip((steps, summarise(steps)), paths, strict=True):
            without_formulas(frame).to_csv(path, index=False, float_format=snakemake.params.precision)
