"""ID scores by both rules of ties against the bound, over all networks that the paper's tables are of."""

import numpy as np
from relmap.catalogue.rows import label
from relmap.evidence.layout import write_frame
from relmap.evidence.maps import open_maps
from relmap.job.logs import job
from relmap.job.parquet import read_parquet

from papers.c3lrp.ties import tied_share, ties_table

with job(snakemake.log[0]) as log:
    methods = snakemake.params.methods
    networks = len(snakemake.input.scores)
    # Stores lie network by network, each with all methods.
    shares = [
        float(np.concatenate([tied_share(part.maps) for part in open_maps(store).parts()]).mean())
        for store in snakemake.input.stores
    ]
    tied = dict(zip(methods, np.reshape(shares, (networks, len(methods))).mean(axis=0), strict=True))
    scores = [read_parquet(path) for path in snakemake.input.scores]
    table = ties_table(scores, tied, methods, {method: label(method) for method in methods})
    caption = f"ID scores by both rules of ties, means over {networks} trainings"
    write_frame(table, snakemake.output.csv, caption)
    log.info("%d methods on %d networks", len(methods), networks)
