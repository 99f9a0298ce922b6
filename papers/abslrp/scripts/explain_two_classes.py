"""Maps of pictures with two classes: do the classes' maps lie in their halves?"""

import numpy as np
import pandas as pd
import relmap
import torch
from relmap.data.images import load_pixels
from relmap.evidence.evaluation import rows_of, write_parquet
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.models.inference import predict

from papers.abslrp.halves import SIDES, class_pairs, composed, own_shares

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files, settings = snakemake.params, snakemake.input, snakemake.params.settings
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    manifest, view = subject.manifest, subject.preprocessing
    pairs = class_pairs(read_parquet(files.targets), settings["pictures"], settings["confidence"], params.seed)
    parts = [load_pixels(manifest, rows_of(manifest, pairs[side].tolist()), view, snakemake.threads) for side in SIDES]
    pictures = composed(*parts)
    images = view.normalise(pictures).to(subject.device)
    targets = torch.from_numpy(pairs[[f"{side}_target" for side in SIDES]].to_numpy(np.int64, copy=True))
    top = predict(subject.model, images, params.batch_size).topk(2, dim=1).indices.cpu()
    known = (top.sort(1).values == targets.sort(1).values).all(1).numpy()
    maps = relmap.compare(
        subject.model, images, targets.to(subject.device), list(params.methods), batch_size=params.batch_size
    )
    shares = {method: own_shares(found).cpu().numpy() for method, found in maps.items()}
    rows = [
        pd.DataFrame({"picture": np.arange(len(pairs)), "known": known, "method": method, "side": side})
        .join(pairs)
        .assign(share=found[:, place])
        for method, found in shares.items()
        for place, side in enumerate(SIDES)
    ]
    write_parquet(pd.concat(rows, ignore_index=True), snakemake.output.shares)
    # Pictures of which the network knows both classes come first.
    shown = np.argsort(~known, kind="stable")[: settings["shown"]]
    names = np.array(manifest.info.class_names)
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(
            temporary,
            picture=pictures[shown].permute(0, 2, 3, 1).numpy(),
            known=known[shown],
            classes=names[targets[shown].numpy()],
            **{side: pairs[side].to_numpy(dtype=str)[shown] for side in SIDES},
            **{f"maps/{method}": found[shown].cpu().numpy().astype(np.float32) for method, found in maps.items()},
            **{f"shares/{method}": found[shown] for method, found in shares.items()},
        )
    log.info("%d pictures; of %d the network's two first classes are those of the halves", len(pairs), known.sum())
