"""How much of a class's positive relevance lies in its half of a picture with two, by network and method."""

import pandas as pd
from relmap.evidence.layout import write_frame
from relmap.evidence.statistics import bootstrap_mean
from relmap.job.logs import job
from relmap.job.parquet import read_parquet

with job(snakemake.log[0]) as log:
    params, table = snakemake.params, []
    for model, path in zip(params.models, snakemake.input.shares, strict=True):
        for method, part in read_parquet(path).groupby("method", sort=False):
            values, pictures = part["share"].to_numpy(), part["picture"].to_numpy()
            interval = bootstrap_mean(values, resamples=params.resamples, seed=params.seed, images=pictures)
            row = {"model": model, "method": method, "share": interval.mean, "ci_low": interval.low}
            row |= {"ci_high": interval.high, "n_images": interval.n, "known": part["known"].mean()}
            table.append(row)
    write_frame(pd.DataFrame(table), snakemake.output.csv, "Positive relevance of a class in its half of a picture")
    log.info("%d rows", len(table))
