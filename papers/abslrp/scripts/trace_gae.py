"""Global Attribution Evaluation of the mosaic whose positive image the network is surest of, laid open."""

import numpy as np
from relmap.data.images import load_pixels
from relmap.evidence.evaluation import rows_of
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.metrics.mosaics import assembled

from papers.abslrp.shown import TRACED_METHODS, mosaic_scores, surest_mosaic
from papers.abslrp.trace import trace

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    manifest = subject.manifest
    mosaic = surest_mosaic(mosaic_scores(read_parquet(files.scores)), read_parquet(files.targets))
    image_ids = [mosaic[f"mosaic_{place}"] for place in range(4)]
    rows = rows_of(manifest, image_ids)
    pixels = load_pixels(manifest, rows, subject.preprocessing, snakemake.threads)
    arrays = trace(
        subject.model,
        subject.preprocessing.normalise(pixels).to(subject.device),
        int(mosaic["quadrant"]),
        TRACED_METHODS,
        params.settings,
        [labels[0] if labels else -1 for labels in manifest.label_sets(rows)],
        params.batch_size,
    )
    names = np.array(manifest.info.class_names)
    with atomic_path(snakemake.output.trace) as temporary:
        np.savez_compressed(
            temporary,
            image_id=np.array(image_ids, dtype=str),
            quadrant=np.array(int(mosaic["quadrant"])),
            explained=names[arrays["target"]],
            pictures=pixels.permute(0, 2, 3, 1).numpy(),
            mosaic=assembled(pixels[None])[0].permute(1, 2, 0).numpy(),
            **arrays,
        )
    log.info("mosaic of %s, quadrant %s is explained", ", ".join(image_ids), mosaic["quadrant"])
