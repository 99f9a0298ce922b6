"""One store a method of what the jobs that divided its pairs have made."""

from relmap.evidence.maps import join_maps
from relmap.job.logs import job
from relmap.job.parquet import read_parquet

with job(snakemake.log[0], snakemake.threads) as log:
    pairs = read_parquet(snakemake.input.targets)
    count = len(snakemake.input.stores) // len(snakemake.output.stores)
    for place, store in enumerate(snakemake.output.stores):
        parts = snakemake.input.stores[place * count : (place + 1) * count]
        join_maps(parts, store, pairs["image_id"].tolist(), pairs["target"].to_numpy(copy=True))
        log.info("%s: %d parts", store, len(parts))
