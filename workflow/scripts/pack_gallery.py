"""A few images of every data set under every method of a network, small, for the report's gallery."""

from pathlib import Path

from relmap.figures.packing import Place, pack
from relmap.job.logs import job

with job(snakemake.log[0]) as log:
    params, folder = snakemake.params, Path(snakemake.output.folder)
    places = [Place(*place) for place in params.places]
    pack(params.results, places, params.unsigned, params.seed, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    log.info("%d data sets and networks: %.1f MB", len(places), size / 1e6)
