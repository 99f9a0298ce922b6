"""A paper's tables: published beside ours, with the controls, as CSV, Markdown and LaTeX."""

from dataclasses import replace
from pathlib import Path

from relmap.catalogue.papers import published, read_paper
from relmap.catalogue.rows import load_rows
from relmap.evidence.layout import write_frame, write_table
from relmap.evidence.significance import significance
from relmap.evidence.tables import fill, images_note, measured, trainings_note
from relmap.evidence.values import load_scores
from relmap.job.logs import job

with job(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    paper = read_paper(Path(given.paper).parent)
    known = replace(load_rows(given.extensions).with_methods(params.trainings), networks=paper.networks)
    scores = load_scores(given.scores, known, given.targets)
    brackets = f"In brackets the {100 * params.confidence:g} % bootstrap interval of ours"
    for (number, table), output in zip(paper.tables.items(), snakemake.output.csv, strict=True):
        frame = published(paper, number, known)
        settings = (
            params.confidence,
            params.resamples,
            params.seed,
            paper.controls,
            known,
            params.missing,
            params.guests,
        )
        filled = fill(frame, scores, *settings)
        parts = [
            f"{paper.short}, Table {number}",
            table["caption"],
            images_note(filled),
            brackets,
            trainings_note(filled),
        ]
        write_table(filled, output, ". ".join(filter(None, parts)), table["rows"])
    for output in snakemake.output.measured:
        frame = measured(
            paper.measured,
            scores,
            params.confidence,
            params.resamples,
            params.seed,
            paper.controls,
            known,
            params.missing,
        )
        write_frame(frame, output, f"{paper.short}: what its figures show, and other readings")
    for output in snakemake.output.significance:
        asked = paper.significance
        printed = {number: published(paper, number, known) for number in asked.tables}
        frame = significance(printed, asked.columns, asked.level, scores, known)
        caption = f"{paper.short}: Wilcoxon's signed-rank test of each column's best method against the others"
        write_frame(frame, output, f"{caption}, at the level {asked.level:g}")
