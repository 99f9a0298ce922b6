"""Measure the choices that the paper leaves open for LRP itself, on birds that the tables do not show."""

import pandas as pd
from relmap.evidence.evaluation import rows_of
from relmap.evidence.frames import write_computed
from relmap.evidence.statistics import bootstrap_mean
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject, unseen_rows

from papers.clam.ablation import hold, lrp_variant, pointing_of

DEFAULT = {"first": "z_box", "bounds": "valid_range", "batch_norm": "alpha_beta"}

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    rows = []
    for model, weights, targets in zip(params.models, files.weights, files.targets, strict=True):
        subject = Subject.open(files.manifest[0], weights, params.device, params.batch_size, snakemake.threads)
        evaluated = rows_of(subject.manifest, read_parquet(targets)["image_id"])
        held = hold(subject, unseen_rows(subject.manifest, evaluated, params.birds, params.seed))
        for variant in params.variants[model]:
            choice = {**DEFAULT, **variant}
            methods = lrp_variant(subject.model, **choice)
            for explainer, values in zip(methods, pointing_of(methods, held), strict=True):
                interval = bootstrap_mean(values, seed=params.seed)
                of_cell = {"pointing": interval.mean, "ci_low": interval.low, "ci_high": interval.high}
                rows.append({"model": model, **choice, "explainer": explainer, **of_cell, "n_images": interval.n})
            log.info("%s", rows[-1])
    write_computed(pd.DataFrame(rows), snakemake.output.table, "Choices that the paper leaves open for LRP")
