"""Maps of two vision transformers of other patches, for images that both are sure of."""

import numpy as np
import relmap
import torch
from relmap.data.images import load_pixels
from relmap.evidence.evaluation import rows_of
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject

from papers.abslrp.figures.patches import METHODS
from papers.abslrp.shown import PATCH_MODELS, surest_in_both

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    chosen = surest_in_both(*map(read_parquet, files.targets), params.settings["images"])
    arrays = {}
    for model, weights in zip(PATCH_MODELS, files.weights, strict=True):
        subject = Subject.open(files.manifest, weights, params.device, params.batch_size, snakemake.threads)
        rows = rows_of(subject.manifest, chosen["image_id"].tolist())
        pixels = load_pixels(subject.manifest, rows, subject.preprocessing, snakemake.threads)
        images = subject.preprocessing.normalise(pixels).to(subject.device)
        targets = torch.from_numpy(chosen["target"].to_numpy(np.int64, copy=True)).to(subject.device)
        maps = relmap.compare(subject.model, images, targets, list(METHODS), batch_size=params.batch_size)
        arrays[f"patch/{model}"] = np.array(subject.model.patch_size)
        arrays[f"picture/{model}"] = pixels.permute(0, 2, 3, 1).numpy()
        arrays |= {f"maps/{model}/{method}": found.cpu().numpy() for method, found in maps.items()}
    names = np.array(subject.manifest.info.class_names)
    with atomic_path(snakemake.output.patches) as temporary:
        np.savez_compressed(
            temporary,
            image_id=chosen["image_id"].to_numpy(dtype=str),
            true=names[chosen["target"].to_numpy()],
            **arrays,
        )
    log.info("%d images", len(chosen))
