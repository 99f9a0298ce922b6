"""Perturb the least relevant pixels first: is the classifier still right after each step?"""

import numpy as np
import pandas as pd
import torch
from relmap.data.images import Preprocessing, load_images
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import method_maps, places_of, rows_of, tidy, write_parquet
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.metrics.lerf import filler_values, lerf_correct, pixels_at
from relmap.models.card import load_model
from tqdm import tqdm

with job(snakemake.log[0], snakemake.threads) as log:
    params, lerf = snakemake.params, snakemake.params.lerf
    device = choose_device(params.device)
    manifest = read_manifest(snakemake.input.manifest)
    model, card = load_model(snakemake.input.weights, device)
    preprocessing = Preprocessing.from_dict(card.preprocessing)
    # The paper counts images that were classified rightly at first, for the class that they were classified as.
    right = pd.read_parquet(snakemake.input.targets).query("correct and predicted")
    log.info("%d images classified rightly", len(right))
    labels = torch.from_numpy(right["target"].to_numpy(copy=True)).to(device)
    images = load_images(manifest, rows_of(manifest, right["image_id"]), preprocessing, snakemake.threads).to(device)
    pixels = pixels_at(lerf["pixels"], lerf["reference_size"], preprocessing.crop)
    filler = filler_values(lerf["fill"], preprocessing.mean, preprocessing.std)
    steps = np.arange(1, lerf["steps"] + 1)
    parts = []
    stores = dict(zip(params.methods, snakemake.input.stores, strict=True))
    for method, maps in tqdm(method_maps(stores), total=len(stores), unit="method"):
        chosen = torch.from_numpy(maps.maps[places_of(maps, right["image_id"], right["target"])])
        correct = lerf_correct(model, images, chosen, labels, lerf["steps"], pixels, filler, params.batch_size)
        parts.append(
            tidy(right["image_id"].tolist(), right["target"], method, "lerf_correct", correct.cpu().numpy(), steps)
        )
    write_parquet(pd.concat(parts, ignore_index=True), snakemake.output.scores)
