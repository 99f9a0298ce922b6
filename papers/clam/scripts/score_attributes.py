"""Do the regions that a class's attributes choose fall on the parts that tell the class apart?"""

from pathlib import Path

import pandas as pd
from relmap.data.images import load_part_maps
from relmap.evidence.evaluation import rows_of, write_parquet
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.propagation import Propagator

from papers.clam.attribute_scores import distinguishing_table, score_layers
from papers.clam.cla.trained import load_chain
from papers.clam.methods import REFINED

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    propagator = Propagator(subject.model)
    arms = {"clam": files.layers, "clam_untrained": files.untrained}
    layers = {arm: load_chain(Path(path), device=subject.device) for arm, path in arms.items()}
    pairs = read_parquet(files.targets)[["image_id", "target"]]
    rows = rows_of(subject.manifest, pairs["image_id"])
    table = distinguishing_table(subject.manifest.info)
    frames, done = [], 0
    for images, targets in subject.batches(rows, pairs["target"].to_numpy(copy=True), "attributes"):
        part = rows[done : done + len(images)]
        part_maps = load_part_maps(subject.manifest, part, subject.preprocessing)
        of_batch = score_layers(propagator, layers, images, targets, part_maps, table, list(REFINED))
        of_pairs = pairs.iloc[done + of_batch.pop("image")].reset_index(drop=True)
        frames.append(pd.concat([of_batch, of_pairs], axis=1))
        done += len(images)
    write_parquet(pd.concat(frames, ignore_index=True), snakemake.output.scores)
