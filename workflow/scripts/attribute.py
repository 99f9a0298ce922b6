"""Explain the pairs of a data set and network by some methods that share forward passes; one store of maps a method."""

from contextlib import ExitStack

import numpy as np
import torch
from relmap.catalogue.methods import ARTIFACTS, Method
from relmap.data.images import sizes_seen
from relmap.evidence.evaluation import pairs_of_images, ranges_of_images, rows_of
from relmap.evidence.maps import writing_maps
from relmap.explanation import compare
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.propagation import Propagator
from tqdm import tqdm

# Maps of all methods that are in memory before they go into their stores.
BYTES = 1 << 29

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    pairs = read_parquet(files.targets)
    propagator = Propagator(subject.model)
    methods = [Method.from_dict(row) for row in params.methods]
    given = {}
    for method in methods:
        given[method] = dict(artifacts=files.artifacts, settings=params.settings) if ARTIFACTS in method.needs else {}
    image_ids, targets = pairs["image_id"].tolist(), pairs["target"].to_numpy(copy=True)
    rows = rows_of(subject.manifest, image_ids)
    sizes = sizes_seen(subject.manifest, rows, subject.preprocessing)
    frame = tuple(sizes.max(0, initial=0).tolist())
    at_once = max(subject.batch_size, BYTES // max(1, 4 * len(methods) * frame[0] * frame[1]))
    with ExitStack() as stores, tqdm(total=len(pairs), desc="maps", unit="pair", mininterval=5) as bar:
        writers = {}
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
            writers[method.id] = stores.enter_context(
                writing_maps(store, frame, image_ids, targets, attrs, sizes=sizes)
            )
        for part in ranges_of_images(image_ids, at_once):
            found = {method.id: np.zeros((part.stop - part.start, *frame), np.float32) for method in methods}
            part_rows, part_targets = rows[part], targets[part]
            # The targets of an image share its forward pass.
            for of_images in pairs_of_images(image_ids[part]):
                batch_size = max(1, params.batch_size // of_images.shape[1])
                firsts = part_rows[of_images[:, 0]]
                for (images, classes), places in subject.placed(firsts, part_targets[of_images], None):
                    height, width = images.shape[2:]
                    at = of_images[places].ravel()
                    for method, maps in compare(propagator, images, classes, given, batch_size=batch_size).items():
                        found[method][at, :height, :width] = maps.flatten(0, 1).float().cpu().numpy()
                    bar.update(len(at))
            for method, maps in found.items():
                writers[method].append(maps)
    for store in snakemake.output.stores:
        log.info("%s", store)
