"""Render birds in CUB-200-2011's format and write the data set's card, last."""

import time
from pathlib import Path

from relmap.data.render import render_cub
from relmap.job.files import write_json
from relmap.job.logs import job

with job(snakemake.log[0]):
    start = time.monotonic()
    sizes = snakemake.params.sizes
    render_cub(Path(snakemake.output.root), **sizes, seed=snakemake.params.seed, workers=snakemake.threads)
    card = {
        "dataset": "cub200_2011",
        "source": "render",
        "root": snakemake.output.root,
        "classes": sizes["classes"],
        "images": sizes["classes"] * (sizes["train_per_class"] + sizes["test_per_class"]),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(snakemake.output.card, card)
