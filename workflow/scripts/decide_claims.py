"""Decide the paper's claims by paired tests on our rows."""

import pandas as pd
from relmap.catalogue import registry
from relmap.evidence.claims import decide, read_claims
from relmap.evidence.tables import load_scores, read_published, write_frame
from relmap.job.logs import job

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    paper = [method.id for method in registry.methods([registry.CLAM_ARM])]
    scores = load_scores([*given.pointing, *given.lerf, *given.segmentation])
    published = pd.concat(map(read_published, given.published), ignore_index=True)
    claims, comparisons = decide(
        read_claims(given.claims, paper), scores, published, params.significance, seed=params.seed
    )
    write_frame(claims, snakemake.output.csv, "Claims of CLAM's text")
    write_frame(comparisons, snakemake.output.comparisons, "The comparisons behind the claims")
