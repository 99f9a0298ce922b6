"""Write the merged, completed config beside the results."""

from relmap.config import dump
from relmap.files import atomic_path
from relmap.logs import job

with job(snakemake.log[0]), atomic_path(snakemake.output.config) as temporary:
    temporary.write_text(dump(snakemake.params.config))
