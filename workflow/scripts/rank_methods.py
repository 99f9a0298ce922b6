"""All methods by all numbers on all data sets and networks: standings, mean ranks, agreement, trust in the numbers."""

from pathlib import Path

from relmap.catalogue.rows import load_rows
from relmap.evidence.layout import write_frame
from relmap.evidence.leaderboard import agreement, mean_ranks, standings
from relmap.evidence.rankings import boards, resampled
from relmap.evidence.trust import level_dependence, metric_trust
from relmap.evidence.values import load_scores
from relmap.job.logs import job
from relmap.job.parquet import read_parquet

with job(snakemake.log[0]) as log:
    params, given, made = snakemake.params, snakemake.input, snakemake.output
    known = load_rows(given.extensions)
    scores = load_scores(given.scores, known)
    of_run = boards(scores[~scores["method"].isin(params.left_out)], known)
    samples = resampled(of_run, params.resamples, params.seed)
    log.info("%d numbers on data sets and networks", len(of_run))
    write_frame(standings(of_run, samples, params.confidence), made.standings, "Every method by every number")
    ranks = mean_ranks(of_run, samples, params.confidence, params.significance)
    ranks.insert(2, "label", ranks["method"].map(known.label))
    write_frame(ranks, made.ranks, "Mean places and ranks over settings")
    table = agreement(of_run, samples, params.confidence)
    write_frame(table, made.agreement, "Kendall's tau between the orders in which two numbers put the methods")
    levels = {}
    for path in map(Path, given.scores):
        levels |= level_dependence(read_parquet(path), *path.parts[-3:-1], known)
    trust = metric_trust(of_run, samples, params.confidence, known, levels, params.seed)
    write_frame(trust, made.trust, "How far each number can be trusted")
