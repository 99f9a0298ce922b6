"""Explain the pairs of a data set and network by some methods that share forward passes; one store of maps a method."""

import numpy as np
import pandas as pd
import torch
from relmap.catalogue.methods import ARTIFACTS, Method
from relmap.data.images import sizes_seen
from relmap.evidence.evaluation import pairs_of_images, rows_of
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
        given[method] = dict(artifacts=files.artifacts, settings=params.settings) if ARTIFACTS in method.needs else {}
    rows = rows_of(subject.manifest, pairs["image_id"])
    sizes = sizes_seen(subject.manifest, rows, subject.preprocessing)
    found = {method.id: np.zeros((len(rows), *sizes.max(0, initial=0)), np.float32) for method in methods}
    targets = pairs["target"].to_numpy(copy=True)
    # The targets of an image share its forward pass.
    for of_images in pairs_of_images(pairs["image_id"]):
        batch_size = max(1, params.batch_size // of_images.shape[1])
        for (images, classes), places in subject.placed(rows[of_images[:, 0]], targets[of_images], "maps"):
            height, width = images.shape[2:]
            at = of_images[places].ravel()
            for method, maps in compare(propagator, images, classes, given, batch_size=batch_size).items():
                found[method][at, :height, :width] = maps.flatten(0, 1).float().cpu().numpy()
    for method, store in zip(methods, snakemake.output.stores, strict=True):
        attrs = {
            "method": method.id,
            "label": method.label,
            "parameters": dict(method.parameters),
            "dataset": subject.manifest.info.dataset,
            "fingerprint": subject.manifest.info.fingerprint,
            "model": subject.card.architecture,
            "weights_sha256": subject.card.sha256,
            "settings": dict(params.settings) if ARTIFACTS in method.needs else {},
            "torch": torch.__version__,
        }
        write_maps(store, found[method.id], list(pairs["image_id"]), targets, attrs, sizes=sizes)
        log.info("%s", store)
