"""What every method costs on each network: operations, time, memory."""

import pandas as pd
from relmap.evidence.frames import write_computed
from relmap.inspection.comparison import admitted
from relmap.inspection.cost import measure
from relmap.job.logs import job
from relmap.job.subject import Subject
from relmap.network import trace

# One thread, while the rule keeps all cores free: seconds that compare between machines and do not wait for others.
THREADS = 1

with job(snakemake.log[0], THREADS, snakemake.resources.gpu) as log:
    params = snakemake.params
    tables = []
    for model, weights in zip(params.models, snakemake.input.weights, strict=True):
        subject = Subject.open(snakemake.input.manifest[0], weights, params.device, params.images, THREADS)
        images, _ = next(subject.batches(subject.manifest.rows("test")[: params.images]))
        methods = admitted(trace(subject.model), params.methods)
        given = {method: params.explainers.get(method, {}) for method in methods}
        table = measure(subject.model, images, given, repetitions=params.repetitions)
        table.insert(0, "model", model)
        tables.append(table)
        log.info("%s: %d methods", model, len(methods))
    caption = f"What every method costs, {params.images} images at a time, on one thread"
    write_computed(pd.concat(tables, ignore_index=True), snakemake.output.table, caption)
