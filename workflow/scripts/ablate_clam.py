"""Not written yet."""

from relmap.errors import InputError
from relmap.logs import job

with job(snakemake.log[0]):
    raise InputError("ablate_clam: this script is not written yet")
