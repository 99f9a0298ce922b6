"""Decide a paper's claims by paired tests on our rows."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from relmap.catalogue.papers import published, read_paper
from relmap.catalogue.rows import load_rows
from relmap.evidence.claims import decide, read_claims
from relmap.evidence.layout import write_frame
from relmap.evidence.values import load_scores
from relmap.job.logs import job

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    paper = read_paper(Path(given.paper).parent)
    known = replace(load_rows(given.extensions).with_methods(params.trainings), networks=paper.networks)
    printed = pd.concat([published(paper, number, known) for number in paper.tables], ignore_index=True)
    claims = read_claims(given.claims[0], list(dict.fromkeys(printed["method"])), known)
    scores = load_scores(given.scores, known, given.targets)
    decided, comparisons = decide(claims, scores, printed, params.significance, seed=params.seed, known=known)
    write_frame(decided, snakemake.output.csv, f"Claims of {paper.short}'s text")
    write_frame(comparisons, snakemake.output.comparisons, "The comparisons behind the claims")
