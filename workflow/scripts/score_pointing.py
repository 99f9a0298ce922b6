"""Extended pointing game: accuracy of every method's maps at every residual energy."""

import pandas as pd
import torch
from relmap.data.images import Preprocessing, load_boxes
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import method_maps, rows_of, tidy, write_parquet
from relmap.job.files import read_json
from relmap.job.logs import job
from relmap.metrics.pointing import extended_pointing

with job(snakemake.log[0], snakemake.threads):
    manifest = read_manifest(snakemake.input.manifest)
    preprocessing = Preprocessing.from_dict(read_json(snakemake.input.card)["preprocessing"])
    energies = snakemake.params.energies
    levels = [level / energies for level in range(1, energies + 1)]
    parts, inside = [], None
    for method, maps in method_maps(dict(zip(snakemake.params.methods, snakemake.input.stores, strict=True))):
        if inside is None:
            inside = load_boxes(manifest, rows_of(manifest, maps.image_ids), preprocessing, maps.targets)
        accuracy = extended_pointing(torch.from_numpy(maps.maps), inside, energies)
        parts.append(tidy(maps.image_ids, maps.targets, method, "pointing", accuracy.numpy(), levels))
    write_parquet(pd.concat(parts, ignore_index=True), snakemake.output.scores)
