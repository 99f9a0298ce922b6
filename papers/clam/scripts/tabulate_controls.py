"""CLAM beside its base methods and beside its untrained control."""

from relmap.catalogue.metrics import METRICS
from relmap.catalogue.rows import Rows
from relmap.evidence.layout import write_frame
from relmap.evidence.values import load_scores
from relmap.job.logs import job

from papers.clam.controls import controls
from papers.clam.metrics import OF_TEXT

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    known = Rows(metrics={**METRICS, **{metric.id: metric for metric in OF_TEXT}})
    scores = load_scores(given.scores, known)
    table = controls(scores, confidence=params.confidence, resamples=params.resamples, seed=params.seed)
    write_frame(table, snakemake.output.csv, "CLAM against its base methods and its untrained control")
