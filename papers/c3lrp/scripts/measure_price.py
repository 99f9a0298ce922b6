"""Parameters, multiply-accumulates and seconds of a map, beside what the paper says."""

from relmap.evidence.frames import write_computed
from relmap.job.device import choose_device
from relmap.job.logs import job

from papers.c3lrp.price import price_table

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu):
    params = snakemake.params
    device = choose_device(params.device)
    settings = params.settings
    table = price_table(
        params.architecture, list(params.methods), device, settings["repetitions"], side=settings["side"]
    )
    where = f"on {device}, {snakemake.threads} threads"
    caption = f"A map of one class of one picture of {settings['side']} pixels, {where}"
    write_computed(table, snakemake.output.table, caption)
