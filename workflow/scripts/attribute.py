"""Explain the evaluated images by every method of one family, and keep one store of maps a method."""

from pathlib import Path

import pandas as pd
import torch
from relmap.catalogue import registry
from relmap.evidence.evaluation import rows_of
from relmap.evidence.maps import write_maps
from relmap.explainers.baselines import explain_baselines
from relmap.explainers.clam.settings import ClamOptions
from relmap.explainers.clam.trained import load_layer
from relmap.explainers.clam.training import EXPLAINERS
from relmap.explainers.lrp import explain_lrp, lrp_propagator
from relmap.job.logs import job
from relmap.job.subject import Subject

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    predictions = pd.read_parquet(files.predictions)
    targets = predictions[params.target].to_numpy()
    rows = rows_of(subject.manifest, predictions["image_id"])
    # The control's layers are one folder, for one job draws them all.
    control = params.family == registry.UNTRAINED_ARM
    paths = sorted(Path(files.layers).glob("*.safetensors")) if control else files.layers
    layers = [load_layer(path, subject.device) for path in paths]
    options = ClamOptions.from_config(params.settings)
    propagator = lrp_propagator(subject.model, subject.preprocessing, **params.explainers)
    found = {method: [] for method in params.methods}
    for images, of_batch in subject.batches(rows, targets, params.family):
        if params.family == "baselines":
            maps = explain_baselines(subject.model, images, of_batch, params.methods)
        else:
            explanation = explain_lrp(propagator, images, of_batch, list(EXPLAINERS), layers, options)
            maps = dict(zip(params.methods, explanation.maps, strict=True))
        for method, values in maps.items():
            found[method].append(values.cpu())
    for method, store in zip(params.methods, snakemake.output.stores, strict=True):
        attrs = {
            "method": method,
            "label": registry.label(method),
            "dataset": subject.manifest.info.dataset,
            "fingerprint": subject.manifest.info.fingerprint,
            "model": subject.card.architecture,
            "weights_sha256": subject.card.sha256,
            "target": params.target,
            "explainers": dict(params.explainers),
            "clam": dict(params.settings),
            "seed": params.seed,
            "torch": torch.__version__,
        }
        write_maps(store, torch.cat(found[method]).numpy(), list(predictions["image_id"]), targets, attrs)
        log.info("%s", store)
