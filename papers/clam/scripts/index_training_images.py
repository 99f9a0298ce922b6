"""Index every training image's best regions under its own class's pattern."""

from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows

from papers.clam.cla.trained import load_layer
from papers.clam.cla.training import EXPLAINERS, lrp_walk
from papers.clam.related import build_index, write_index

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    propagator = lrp_walk(subject.model)
    layers = [load_layer(path, subject.device) for path in files.layers]
    rows = training_rows(subject.manifest, params.settings["train_images_per_class"], params.seed)
    image_ids = subject.manifest.frame["image_id"].to_numpy()[rows]
    index = build_index(propagator, layers, subject.batches(rows, what="index"), image_ids, list(EXPLAINERS))
    write_index(snakemake.output.index, index)
    log.info("%d training images, %d layers", len(rows), len(layers))
