"""Not written yet."""

from relmap.errors import InputError
from relmap.logs import job

with job(snakemake.log[0]):
    raise InputError("tabulate_accuracies: this script is not written yet")
