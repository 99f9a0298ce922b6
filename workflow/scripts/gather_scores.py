"""One table of scores of what the jobs that divided its pairs have scored."""

from relmap.evidence.evaluation import write_parquet
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.metrics.scoring import joined

with job(snakemake.log[0], snakemake.threads):
    frames = [read_parquet(path) for path in snakemake.input.scores]
    write_parquet(joined(frames, snakemake.params.methods), snakemake.output.scores)
