"""Render a data set in its own format and write its card, last."""

import time
from pathlib import Path

from relmap.catalogue.imported import imported
from relmap.job.files import write_json
from relmap.job.logs import job

with job(snakemake.log[0]):
    start = time.monotonic()
    params, root = snakemake.params, Path(snakemake.output.root)
    render = imported(params.renderer, "relmap.data.render")
    render(root, **params.sizes, seed=params.seed, workers=snakemake.threads)
    card = {
        "dataset": snakemake.wildcards.dataset,
        "source": "render",
        "root": str(root),
        "sizes": dict(params.sizes),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(snakemake.output.card, card)
