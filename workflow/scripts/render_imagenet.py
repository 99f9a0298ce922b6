"""Render objects in ILSVRC 2012's format and write the data set's card, last."""

import time
from pathlib import Path

from relmap.data.render import render_imagenet
from relmap.job.files import write_json
from relmap.job.logs import job

with job(snakemake.log[0]):
    start = time.monotonic()
    sizes = snakemake.params.sizes
    render_imagenet(Path(snakemake.output.root), **sizes, seed=snakemake.params.seed, workers=snakemake.threads)
    card = {
        "dataset": "imagenet",
        "source": "render",
        "root": snakemake.output.root,
        "classes": sizes["classes"],
        "images": sizes["classes"] * (sizes["train_per_class"] + sizes["val_per_class"]),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(snakemake.output.card, card)
