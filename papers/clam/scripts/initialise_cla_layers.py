"""The control: CLA-layers of the same sizes, patterns and strengths with initial weights."""

from pathlib import Path

from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows

from papers.clam.cla.layers import layer_file
from papers.clam.cla.plan import plan_layers
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import save_layer
from papers.clam.cla.training import EXPLAINERS, initial_layers, lrp_walk

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    options = ClamOptions.from_config(params.settings)
    propagator = lrp_walk(subject.model)
    plan = plan_layers(propagator, params.layers, subject.card.input_size, options)
    rows = training_rows(subject.manifest, params.settings["train_images_per_class"], params.seed)
    batches = subject.batches(rows, what="features")
    layers = initial_layers(propagator, batches, plan, list(EXPLAINERS), subject.card.classes, options, params.seed)
    with atomic_path(snakemake.output.layers) as folder:
        for place, layer in enumerate(layers):
            save_layer(Path(folder) / f"{layer_file(place, layer.settings.layer)}.safetensors", layer)
