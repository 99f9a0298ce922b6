"""Every method on the same few images: where relevance leaks, and the maps of the first image."""

import numpy as np
import pandas as pd
import torch
from relmap.evidence.evaluation import rows_of, write_parquet
from relmap.explanation import compare
from relmap.inspection.comparison import CELL, admitted, surest
from relmap.inspection.leakage import conservation, conserves
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.propagation import Propagator

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    steps = []
    for (dataset, model), manifest, weights, targets_file, store in zip(
        params.pairs, files.manifests, files.weights, files.targets, snakemake.output.maps, strict=True
    ):
        subject = Subject.open(manifest, weights, params.device, params.images, snakemake.threads)
        chosen = surest(read_parquet(targets_file), params.images)
        rows = rows_of(subject.manifest, chosen["image_id"].tolist())
        images, targets = next(subject.batches(rows, chosen["target"].to_numpy(copy=True)))
        propagator = Propagator(subject.model)
        methods = admitted(propagator.graph, params.methods)
        for method in methods:
            if not conserves(propagator, method):
                continue
            table = conservation(propagator, images, targets, method)
            steps.append(table.assign(dataset=dataset, model=model, method=method))
        given = {method: params.explainers.get(method, {}) for method in methods}
        maps = compare(propagator, images[:1], targets[:1], given)
        with atomic_path(store) as temporary:
            np.savez_compressed(
                temporary,
                image_id=chosen["image_id"].iloc[0],
                target=targets[0].cpu(),
                methods=np.array(list(maps)),
                maps=torch.cat(list(maps.values())).float().cpu(),
            )
        log.info("%s with %s: %d methods", dataset, model, len(methods))
    table = pd.concat(steps, ignore_index=True)
    write_parquet(table[[*CELL, *table.columns.drop(CELL)]], snakemake.output.steps)
