"""Maps of the images that Global Attribution Evaluation scores highest and lowest, as it sees them."""

import numpy as np
import torch
from relmap.data.images import load_pixels
from relmap.evidence.evaluation import rows_of
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.propagation import Propagator

from papers.abslrp.shown import ABSLRP, best_and_worst, mosaic_scores
from papers.abslrp.trace import scored_maps

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    mosaics = mosaic_scores(read_parquet(files.scores))
    chosen = best_and_worst(mosaics, params.settings["images"])
    rows = rows_of(subject.manifest, chosen["image_id"].tolist())
    pixels = load_pixels(subject.manifest, rows, subject.preprocessing, snakemake.threads)
    images = subject.preprocessing.normalise(pixels).to(subject.device)
    explained = chosen["explained"].to_numpy(np.int64)
    targets = torch.from_numpy(explained).to(subject.device)
    maps = scored_maps(
        Propagator(subject.model, tuple(images.shape[1:])), images, targets, ABSLRP, params.batch_size
    ).cpu()
    labels = subject.manifest.label_sets(rows)
    with atomic_path(snakemake.output.extremes) as temporary:
        np.savez_compressed(
            temporary,
            image_id=chosen["image_id"].to_numpy(dtype=str),
            explained=np.array(subject.manifest.info.class_names)[explained],
            right=np.array([target in own for target, own in zip(explained, labels, strict=True)]),
            picture=pixels.permute(0, 2, 3, 1).numpy(),
            map=maps.numpy(),
            scored=np.array(len(mosaics)),
            **{name: chosen[name].to_numpy() for name in ("rank", "gae_lc", "gae_contrastiveness_signed", "gae_total")},
        )
    log.info("best %.3f, worst %.3f of %d mosaics", *mosaics["gae_total"].agg(["max", "min"]), len(mosaics))
