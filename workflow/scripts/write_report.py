"""Write the report's first page."""

from relmap.catalogue.papers import read_paper
from relmap.catalogue.rows import load_rows
from relmap.evidence.status import run_config
from relmap.job.logs import job
from relmap.report import write_report

with job(snakemake.log[0]):
    params = snakemake.params
    rows = load_rows(snakemake.input.extensions, run_config(params.results))
    write_report(params.results, snakemake.output.index, [read_paper(path) for path in params.papers], rows)
