"""Computed tables as CSV and Markdown."""

from relmap.evidence.frames import read_computed
from relmap.evidence.layout import write_frame
from relmap.job.logs import job

with job(snakemake.log[0]):
    for path, csv in zip(snakemake.input.computed, snakemake.output.csv, strict=True):
        frame, caption = read_computed(path)
        write_frame(frame, csv, caption)
