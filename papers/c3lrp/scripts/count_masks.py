"""How often the two masks of Eq. 3 differ, and how near propagations are to Gradient x Input, network by network."""

import pandas as pd
from relmap.evidence.layout import write_frame
from relmap.evidence.maps import read_maps
from relmap.job.logs import job

from papers.c3lrp.masks import correlation_row, correlations, mask_row, with_means

GRADIENT = "input_x_gradient"

with job(snakemake.log[0], snakemake.threads) as log:
    params, places = snakemake.params, iter(snakemake.input.stores)
    counted, compared = [], []
    for network in params.networks:
        maps = {method: read_maps(next(places)).maps for method in params.methods}
        counted += [{"model": network, "method": method, **mask_row(own)} for method, own in maps.items()]
        compared += [
            {"model": network, "method": method, **correlation_row(correlations(own, maps[GRADIENT]))}
            for method, own in maps.items()
            if method != GRADIENT
        ]
    counted, compared = (with_means(pd.DataFrame(rows)) for rows in (counted, compared))
    write_frame(counted, snakemake.output.contour, "Shares of maps in which the masks of Eq. 3 differ")
    write_frame(compared, snakemake.output.telescoping, "Pearson's correlation with Gradient x Input, image by image")
    log.info("%d networks", len(params.networks))
