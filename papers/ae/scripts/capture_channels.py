"""Channels of inner layers, with and without the activation properties, of the surest pictures."""

import numpy as np
import torch
from relmap.data.images import load_pixels
from relmap.evidence.evaluation import rows_of
from relmap.inspection.comparison import surest
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.propagation import Propagator

from papers.ae.channels import channel_attributions

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files, settings = snakemake.params, snakemake.input, snakemake.params.settings
    subject = Subject.open(files.manifest, files.weights[0], params.device, params.batch_size, snakemake.threads)
    pairs = surest(read_parquet(files.targets[0]), settings["images"])
    pixels = load_pixels(subject.manifest, rows_of(subject.manifest, pairs["image_id"].tolist()), subject.preprocessing)
    targets = torch.from_numpy(pairs["target"].to_numpy(np.int64, copy=True)).to(subject.device)
    images = subject.preprocessing.normalise(pixels).to(subject.device)
    arrays = channel_attributions(Propagator(subject.model), images, targets, settings["layers"], settings["channels"])
    names = np.array(subject.manifest.info.class_names)
    with atomic_path(snakemake.output.channels) as temporary:
        np.savez_compressed(
            temporary,
            image_id=pairs["image_id"].to_numpy(dtype=str),
            picture=pixels.permute(0, 2, 3, 1).numpy(),
            true=names[pairs["target"].to_numpy()],
            **arrays,
        )
    log.info("%d pictures, layers %s", len(pairs), ", ".join(arrays["layers"]))
