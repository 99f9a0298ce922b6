"""Write what ran, with which versions, on what, for how long."""

from relmap.files import write_json
from relmap.logs import job
from relmap.provenance import collect

with job(snakemake.log[0]):
    write_json(snakemake.output.provenance, collect(snakemake.params.results, snakemake.params.repository))
