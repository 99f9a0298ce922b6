"""Explain the pairs of a data set and network by some methods that share forward passes; one store of maps a method."""

from contextlib import ExitStack

import torch
from relmap.catalogue.methods import ARTIFACTS, Method
from relmap.data.images import sizes_seen
from relmap.evidence.evaluation import rows_of
from relmap.evidence.maps import writing_maps
from relmap.inspection.attribution import blocks_of, explain_pairs
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.share import Share
from relmap.job.subject import Subject

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    pairs = read_parquet(files.targets)
    image_ids, targets = pairs["image_id"].tolist(), pairs["target"].to_numpy(copy=True)
    rows = rows_of(subject.manifest, image_ids)
    sizes = sizes_seen(subject.manifest, rows, subject.preprocessing)
    frame = tuple(sizes.max(0, initial=0).tolist())
    blocks = Share.parse(params.share).of(blocks_of(image_ids, len(params.methods), frame, params.batch_size))
    own = slice(blocks[0].start, blocks[-1].stop) if blocks else slice(0)
    given, keep = {}, {}
    with ExitStack() as stores:
        for row, store in zip(params.methods, snakemake.output.stores, strict=True):
            method = Method.from_dict(row)
            taking = ARTIFACTS in method.needs
            given[method] = dict(artifacts=files.artifacts, settings=params.settings) if taking else {}
            attrs = {
                "method": method.id,
                "label": method.label,
                "parameters": dict(method.parameters),
                "dataset": subject.manifest.info.dataset,
                "fingerprint": subject.manifest.info.fingerprint,
                "model": subject.card.architecture,
                "weights_sha256": subject.card.sha256,
                "settings": dict(params.settings) if taking else {},
                "torch": torch.__version__,
            }
            writing = writing_maps(store, frame, image_ids[own], targets[own], attrs, sizes=sizes[own])
            keep[method.id] = stores.enter_context(writing).append
        explain_pairs(subject, image_ids, rows, targets, frame, blocks, given, keep)
    for store in snakemake.output.stores:
        log.info("%s", store)
