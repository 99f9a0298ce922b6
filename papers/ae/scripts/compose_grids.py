"""Grids of confidently classified images, and the card of the data set that they are, written last."""

import time
from pathlib import Path

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import rows_of, target_frame
from relmap.job.device import choose_device
from relmap.job.files import write_json
from relmap.job.logs import job
from relmap.models.card import load_model
from relmap.models.sources import class_probabilities

from papers.ae.grids import compose, confident_images, refuse_none, write_grids

with job(snakemake.log[0], gpus=snakemake.resources.gpu) as log:
    start = time.monotonic()
    params, files, root = snakemake.params, snakemake.input, Path(snakemake.output.root)
    n, count, confidence, models = (params.grids[key] for key in ("n", "count", "confidence", "models"))
    manifest = read_manifest(files.manifest)
    tests, found, seen = manifest.rows("test"), [], []
    # Of all test images: those that tables evaluate would be few.
    for path in files.weights:
        model, model_card = load_model(path, choose_device(params.device))
        seen.append(Preprocessing.from_dict(model_card.preprocessing))
        how = seen[-1], params.batch_size, snakemake.threads
        found.append(target_frame(manifest, tests, class_probabilities(model, manifest, tests, *how).numpy()))
    images = confident_images(found, confidence)
    grids = compose(images["label"].to_numpy(), n, count, params.seed)
    refuse_none(grids, images, n, confidence, models)
    wanted = "as configured" if len(grids) == count else f"all that these make, where `ae.grids.count` is {count}"
    log.info("%d images that %s are sure of and right: %d grids, %s", len(images), models, len(grids), wanted)
    # The first model is the one that looks at the grids.
    preprocessing = seen[0]
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
