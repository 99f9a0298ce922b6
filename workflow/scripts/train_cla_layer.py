"""Not written yet."""

from relmap.errors import InputError
from relmap.logs import job

with job(snakemake.log[0]):
    raise InputError("train_cla_layer: this script is not written yet")
