"""Decide the paper's claims by paired tests on our rows."""

from pathlib import Path

import pandas as pd
from relmap.catalogue.papers import published, read_paper
from relmap.evidence.claims import decide, read_claims
from relmap.evidence.tables import load_scores, write_frame
from relmap.job.logs import job

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    paper = read_paper(Path(given.paper).parent)
    printed = pd.concat([published(paper, number) for number in paper.tables], ignore_index=True)
    scores = load_scores([*given.pointing, *given.lerf, *given.segmentation])
    claims = read_claims(given.claims, list(dict.fromkeys(printed["method"])))
    decided, comparisons = decide(claims, scores, printed, params.significance, seed=params.seed)
    write_frame(decided, snakemake.output.csv, f"Claims of {paper.short}'s text")
    write_frame(comparisons, snakemake.output.comparisons, "The comparisons behind the claims")
