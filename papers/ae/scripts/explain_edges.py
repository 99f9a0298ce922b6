"""How much relevance falls on the edges of a background, and outside the object."""

import numpy as np
import pandas as pd
import relmap
import torch
from relmap.data.images import load_boxes, load_pixels
from relmap.errors import InputError
from relmap.evidence.evaluation import rows_of
from relmap.evidence.frames import write_computed
from relmap.inspection.comparison import rightly_classified, spread_over_classes
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.seeds import derive
from relmap.job.subject import Subject
from relmap.models.inference import predict

from papers.ae.edges import backgrounds, before
from papers.ae.rows import EDGE_METHODS
from papers.ae.shares import share_row

EXAMPLES = 3
CANDIDATES = 4  # times as many pictures are laid before edges as are kept

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights[0], params.device, params.batch_size, snakemake.threads)
    manifest, view = subject.manifest, subject.preprocessing
    right = rightly_classified(read_parquet(files.targets[0]))
    candidates = spread_over_classes(right, CANDIDATES * params.settings["images"], params.seed)
    if candidates.empty:
        raise InputError(f"{files.targets[0]}: no picture is rightly classified; train the network longer")
    rows = rows_of(manifest, candidates["image_id"].tolist())
    labels = candidates["target"].to_numpy(np.int64, copy=True)
    objects = load_boxes(manifest, rows, view, labels)
    fields = backgrounds(len(rows), view.crop, params.settings["contrast"], derive(params.seed, "fields"))
    pictures, edges = before(load_pixels(manifest, rows, view, snakemake.threads), objects, fields)
    images = view.normalise(pictures).to(subject.device)
    still = np.flatnonzero(predict(subject.model, images, params.batch_size).argmax(1).numpy() == labels)
    known = len(still) / len(rows)
    log.info("%d of %d objects are rightly classified before edges", len(still), len(rows))
    if not len(still):
        raise InputError("config: `ae.edges.contrast`: no object is rightly classified before such edges; lower it")
    still = still[: params.settings["images"]]
    pictures, images, objects, edges = pictures[still], images[still], objects[still], edges[still]
    true = torch.from_numpy(labels[still])
    maps = relmap.compare(
        subject.model, images, true.to(subject.device), list(EDGE_METHODS), batch_size=params.batch_size
    )
    table = [
        share_row({"method": method, "region": name, "known": known}, found.cpu(), region, params.seed)
        for method, found in maps.items()
        for name, region in (("edges", edges), ("outside the object", ~objects))
    ]
    names = np.array(manifest.info.class_names)
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(
            temporary,
            image_id=candidates["image_id"].to_numpy(dtype=str)[still][:EXAMPLES],
            picture=pictures.permute(0, 2, 3, 1).numpy()[:EXAMPLES],
            region=objects.numpy()[:EXAMPLES],
            true=names[labels[still]][:EXAMPLES],
            **{f"maps/{method}": found.cpu().numpy()[:EXAMPLES].astype(np.float32) for method, found in maps.items()},
        )
    write_computed(pd.DataFrame(table), snakemake.output.table, "Positive relevance on the edges of a background")
