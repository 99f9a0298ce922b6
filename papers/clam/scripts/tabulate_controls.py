"""CLAM beside its base methods and beside its untrained control."""

from relmap.evidence.tables import load_scores, write_frame
from relmap.job.logs import job

from papers.clam.controls import controls

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    scores = load_scores(given.scores)
    table = controls(scores, confidence=params.confidence, resamples=params.resamples, seed=params.seed)
    write_frame(table, snakemake.output.csv, "CLAM against its base methods and its untrained control")
