"""Not written yet."""

from relmap.errors import InputError
from relmap.logs import job

with job(snakemake.log[0]):
    raise InputError("relate_images: this script is not written yet")
