"""Index every training image's best regions under its own class's pattern."""

from pathlib import Path

from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows
from relmap.propagation import Propagator

from papers.clam.cla.trained import load_chain
from papers.clam.methods import REFINED
from papers.clam.related import build_index, write_index

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    layers = load_chain(Path(files.layers), device=subject.device)
    rows = training_rows(subject.manifest, params.settings["train_images_per_class"], params.seed)
    image_ids = subject.manifest.frame["image_id"].to_numpy()[rows]
    batches = subject.batches(rows, what="index")
    index = build_index(Propagator(subject.model), layers, batches, image_ids, list(REFINED))
    write_index(snakemake.output.index, index)
    log.info("%d training images, %d layers", len(rows), len(layers))
