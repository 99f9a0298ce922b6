"""Grids of confidently classified images, and the card of the data set that they are, written last."""

import time
from pathlib import Path

import pandas as pd
from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import rows_of
from relmap.job.files import write_json
from relmap.job.logs import job
from relmap.models.card import read_card

from papers.ae.grids import compose, confident_images, refuse_none, write_grids

with job(snakemake.log[0]) as log:
    start = time.monotonic()
    params, files, root = snakemake.params, snakemake.input, Path(snakemake.output.root)
    n, count, confidence, models = (params.grids[key] for key in ("n", "count", "confidence", "models"))
    manifest = read_manifest(files.manifest)
    images = confident_images([pd.read_parquet(path) for path in files.targets], confidence)
    grids = compose(images["label"].to_numpy(), n, count, params.seed)
    refuse_none(grids, images, n, confidence, models)
    wanted = "as configured" if len(grids) == count else f"all that these make, where `ae.grids.count` is {count}"
    log.info("%d images that %s are sure of and right: %d grids, %s", len(images), models, len(grids), wanted)
    # The card is of the first model: it is the one that looks at the grids.
    preprocessing = Preprocessing.from_dict(read_card(files.card).preprocessing)
    rows = rows_of(manifest, images["image_id"].tolist())
    write_grids(root, manifest, rows, grids, preprocessing, snakemake.threads)
    card = {
        "dataset": root.name,
        "source": "derive",
        "root": str(root),
        "of": manifest.info.dataset,
        "sizes": {"n": n, "grids": len(grids), "tile": preprocessing.crop, "confident_images": len(images)},
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(snakemake.output.card, card)
