"""How much relevance falls on the edges of a background, and outside the object."""

import numpy as np
import pandas as pd
import relmap
import torch
from relmap.data.images import load_boxes, load_pixels
from relmap.errors import InputError
from relmap.evidence.evaluation import rows_of
from relmap.evidence.tables import write_frame
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.seeds import derive
from relmap.job.subject import Subject
from relmap.models.inference import predict

from papers.ae.edges import backgrounds, before
from papers.ae.rows import EDGE_METHODS
from papers.ae.shares import share_row, spread_over_classes

EXAMPLES = 3

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights[0], params.device, params.batch_size, snakemake.threads)
    manifest, view = subject.manifest, subject.preprocessing
    targets = pd.read_parquet(files.targets[0])
    pairs = spread_over_classes(targets, params.settings["edges"], params.seed)
    if pairs.empty:
        raise InputError(f"{files.targets[0]}: no picture is rightly classified; train the network longer")
    rows, labels = rows_of(manifest, pairs["image_id"].tolist()), pairs["target"].to_numpy(np.int64, copy=True)
    objects = load_boxes(manifest, rows, view, labels)
    fields = backgrounds(len(rows), view.crop, derive(params.seed, "fields"))
    pictures, edges = before(load_pixels(manifest, rows, view, snakemake.threads), objects, fields)
    images, true = view.normalise(pictures).to(subject.device), torch.from_numpy(labels)
    says = predict(subject.model, images, params.batch_size).argmax(1)
    right = (says == true).double().mean().item()
    log.info("%d objects, %.3f of which are rightly classified before edges", len(rows), right)
    maps = relmap.compare(
        subject.model, images, true.to(subject.device), list(EDGE_METHODS), batch_size=params.batch_size
    )
    table = [
        share_row({"method": method, "region": name, "right": right}, found.cpu(), region, params.seed)
        for method, found in maps.items()
        for name, region in (("edges", edges), ("outside the object", ~objects))
    ]
    order = np.argsort((says != true).numpy(), kind="stable")[:EXAMPLES]
    names = np.array(manifest.info.class_names)
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(
            temporary,
            image_id=pairs["image_id"].to_numpy(dtype=str)[order],
            picture=pictures.permute(0, 2, 3, 1).numpy()[order],
            region=objects.numpy()[order],
            true=names[labels[order]],
            says=names[says.numpy()[order]],
            **{f"maps/{method}": found.cpu().numpy()[order].astype(np.float32) for method, found in maps.items()},
        )
    write_frame(pd.DataFrame(table), snakemake.output.csv, "Positive relevance on the edges of a background")
