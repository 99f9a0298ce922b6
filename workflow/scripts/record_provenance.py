"""Write what ran, with which versions, on what, for how long."""

from relmap.job.files import write_json
from relmap.job.logs import job
from relmap.job.provenance import collect

with job(snakemake.log[0]):
    write_json(snakemake.output.provenance, collect(snakemake.params.results, snakemake.params.repository))
