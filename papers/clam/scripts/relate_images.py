"""Regions, refined relevance and related training images of test images, for the layer sheets."""

from pathlib import Path

import numpy as np
import torch
from relmap.evidence.evaluation import rows_of
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject

from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import load_chain
from papers.clam.cla.training import refined_methods
from papers.clam.examples import EXPLAINER, layer_examples
from papers.clam.related import read_index

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    layers = load_chain(Path(files.layers), device=subject.device)
    pairs = read_parquet(files.targets).sample(frac=1, random_state=params.seed).sort_values("target")
    # As many images as the sheets are chosen from, spread over the classes.
    rank = pairs.groupby("target").cumcount()
    chosen = pairs.loc[rank.sort_values(kind="stable").index[: params.related["candidates"]]]
    images, targets = zip(
        *subject.batches(
            rows_of(subject.manifest, chosen["image_id"]), chosen["target"].to_numpy(copy=True), "examples"
        ),
        strict=True,
    )
    arrays = layer_examples(
        {EXPLAINER: refined_methods(subject.model)[EXPLAINER]},
        layers,
        read_index(files.index),
        torch.cat(images),
        torch.cat(targets),
        ClamOptions.from_config(params.settings),
        related=params.related["images"],
        measure=params.related["distance"],
        duplicate_iou=params.related["duplicate_iou"],
    )
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(temporary, image_id=chosen["image_id"].to_numpy(dtype=str), **arrays)
    log.info("%d images, %d layers", len(chosen), len(layers))
