"""Retrieve one file of the download table, verified."""

from pathlib import Path

from relmap.data.retrieve.download import read_table, retrieve
from relmap.job.logs import job

with job(snakemake.log[0]):
    target = Path(snakemake.output.file)
    retrieve(target.name, target.parent, read_table(snakemake.input.table), snakemake.params.mirror)
