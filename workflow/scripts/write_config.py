"""Write the merged, completed config beside the results."""

from relmap.job.config import dump
from relmap.job.files import atomic_path
from relmap.job.logs import job

with job(snakemake.log[0]), atomic_path(snakemake.output.config) as temporary:
    temporary.write_text(dump(snakemake.params.config))
