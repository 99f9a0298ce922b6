"""Write the report's first page."""

from relmap.job.logs import job
from relmap.report import write_report

with job(snakemake.log[0]):
    write_report(snakemake.params.results, snakemake.output.index)
