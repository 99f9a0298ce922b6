"""IoU of every method's thresholded maps with the segmentations."""

import pandas as pd
import torch
from relmap.data.images import Preprocessing, load_masks
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import method_maps, rows_of, tidy, write_parquet
from relmap.job.files import read_json
from relmap.job.logs import job
from relmap.metrics.segmentation import iou_at_mean_plus_std

with job(snakemake.log[0], snakemake.threads):
    manifest = read_manifest(snakemake.input.manifest)
    preprocessing = Preprocessing.from_dict(read_json(snakemake.input.card)["preprocessing"])
    parts, masks = [], None
    for method, maps in method_maps(dict(zip(snakemake.params.methods, snakemake.input.stores, strict=True))):
        if masks is None:
            masks = load_masks(manifest, rows_of(manifest, maps.image_ids), preprocessing, snakemake.threads)
        iou = iou_at_mean_plus_std(torch.from_numpy(maps.maps), masks)
        parts.append(tidy(maps.image_ids, maps.targets, method, "iou", iou.numpy()))
    write_parquet(pd.concat(parts, ignore_index=True), snakemake.output.scores)
