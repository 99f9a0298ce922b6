"""The control: CLA-layers of the same sizes, patterns and strengths with initial weights."""

from pathlib import Path

from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows

from papers.clam.cla.layers import layer_file
from papers.clam.cla.plan import plan_layers
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import save_layer
from papers.clam.cla.training import Source, initial_layers, refined_methods

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    options = ClamOptions.from_config(params.settings)
    methods = refined_methods(subject.model)
    walk = methods["lrp"].walk
    plan = plan_layers(walk, params.layers, subject.card.input_size, options)
    rows = training_rows(subject.manifest, params.settings["train_images_per_class"], params.seed)
    source = Source(lambda what: subject.batches(rows, what=what), len(rows), subject.card.classes)
    layers = initial_layers(walk, source, plan, list(methods), options, params.seed)
    with atomic_path(snakemake.output.layers) as folder:
        (Path(folder) / "0").mkdir(parents=True)
        for place, layer in enumerate(layers):
            save_layer(Path(folder) / "0" / f"{layer_file(place, layer.settings.layer)}.safetensors", layer)
