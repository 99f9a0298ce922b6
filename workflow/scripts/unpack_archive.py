"""Verify an archive (a person may have put it there) and unpack it below the data set's folder; the mark counts."""

from pathlib import Path

from relmap.data.retrieve.archive import unpack
from relmap.data.retrieve.download import read_table, retrieve
from relmap.job.logs import job

with job(snakemake.log[0]):
    archive = Path(snakemake.input.archive)
    retrieve(archive.name, archive.parent, read_table(snakemake.input.table))
    unpack(archive, snakemake.params.root, snakemake.params.folder)
