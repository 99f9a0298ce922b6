"""Not written yet."""

from relmap.errors import InputError
from relmap.logs import job

with job(snakemake.log[0]):
    raise InputError("convert_weights: this script is not written yet")
