"""Explain the pairs of a data set and network by some methods that share forward passes; one store of maps a method."""

import pandas as pd
import torch
from relmap.catalogue.methods import LAYERS, Method
from relmap.evidence.evaluation import rows_of
from relmap.evidence.maps import write_maps
from relmap.explanation import compare
from relmap.job.logs import job
from relmap.job.subject import Subject
from relmap.propagation import Propagator

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    pairs = pd.read_parquet(files.targets)
    propagator = Propagator(subject.model)
    methods = [Method.from_dict(row) for row in params.methods]
    given = {}
    for method in methods:
        given[method] = dict(artifacts=files.artifacts, settings=params.settings) if LAYERS in method.needs else {}
    found = {method.id: [] for method in methods}
    rows = rows_of(subject.manifest, pairs["image_id"])
    for images, targets in subject.batches(rows, pairs["target"].to_numpy(copy=True), "maps"):
        for method, maps in compare(propagator, images, targets, given, batch_size=params.batch_size).items():
            found[method].append(maps.float().cpu())
    for method, store in zip(methods, snakemake.output.stores, strict=True):
        attrs = {
            "method": method.id,
            "label": method.label,
            "dataset": subject.manifest.info.dataset,
            "fingerprint": subject.manifest.info.fingerprint,
            "model": subject.card.architecture,
            "weights_sha256": subject.card.sha256,
            "settings": dict(params.settings) if LAYERS in method.needs else {},
            "torch": torch.__version__,
        }
        write_maps(
            store, torch.cat(found[method.id]).numpy(), list(pairs["image_id"]), pairs["target"].to_numpy(), attrs
        )
        log.info("%s", store)
