"""Attribute regions against the parts that tell classes apart: beside chance, and beside untrained layers."""

from pathlib import Path

import pandas as pd
from relmap.evidence.layout import write_frame
from relmap.job.logs import job
from relmap.job.parquet import read_parquet

from papers.clam.attribute_table import attribute_table

with job(snakemake.log[0]):
    params = snakemake.params
    parts = [
        read_parquet(path).assign(dataset=Path(path).parts[-3], model=Path(path).parts[-2])
        for path in snakemake.input.attributes
    ]
    table = attribute_table(pd.concat(parts, ignore_index=True), params.confidence, params.resamples, params.seed)
    write_frame(table, snakemake.output.csv, "Attribute regions on the parts that tell classes apart")
