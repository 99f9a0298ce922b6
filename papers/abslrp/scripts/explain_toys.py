"""Attributions of Figure 1's toy networks."""

import pandas as pd
from relmap.evidence.frames import write_computed
from relmap.job.logs import job

from papers.abslrp.toy import toy_attributions

with job(snakemake.log[0], snakemake.threads):
    caption = "Toy networks: the inputs' shares of the relevance"
    write_computed(pd.DataFrame(toy_attributions()).round(6), snakemake.output.table, caption)
