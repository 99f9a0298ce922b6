"""GridPG's scores of each method's map, and of as many of its top pixels as AE's map has positive ones (Figure 9)."""

import pandas as pd
import torch
from relmap.data.images import Preprocessing, load_boxes
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import open_stores, rows_of, write_parquet
from relmap.evidence.maps import open_maps
from relmap.job.logs import job
from relmap.metrics.grid_pointing import grid_pointing, grid_pointing_at
from relmap.models.card import read_card

from papers.ae.rows import GRID_METHODS

with job(snakemake.log[0], snakemake.threads) as log:
    files = snakemake.input
    manifest = read_manifest(files.manifest)
    view = Preprocessing.from_dict(read_card(files.card).preprocessing)
    ours, shares, parts = GRID_METHODS[0], None, []
    first = open_maps(files.stores[0])
    pairs = pd.DataFrame({"image_id": first.image_ids, "target": first.targets})
    for method, store in open_stores(dict(zip(GRID_METHODS, files.stores, strict=True)), pairs).items():
        maps = store.part(slice(None))
        cells = load_boxes(manifest, rows_of(manifest, maps.image_ids), view, maps.targets)
        relevance = torch.from_numpy(maps.maps)
        shares = (relevance > 0).double().mean((1, 2)) if method == ours else shares
        frame = pd.DataFrame({"image_id": maps.image_ids, "target": maps.targets, "method": method})
        scores = {"full": grid_pointing(relevance, cells)}
        if method != ours:
            scores["thresholded"] = grid_pointing_at(relevance, shares, cells, snakemake.params.ties)
        parts += [frame.assign(kept=kept, value=values.numpy()) for kept, values in scores.items()]
    write_parquet(pd.concat(parts, ignore_index=True), snakemake.output.scores)
    log.info("%d grids; AE's positive ratio is %.3f in the mean", len(set(maps.image_ids)), shares.mean().item())
