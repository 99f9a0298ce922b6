"""Train the CLA-layers of one classifier layer, below those that are trained already."""

from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows

from papers.clam.cla.plan import plan_layers
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import load_layer, save_layer
from papers.clam.cla.training import EXPLAINERS, lrp_walk, train_layer

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    options = ClamOptions.from_config(params.settings)
    propagator = lrp_walk(subject.model)
    plan = plan_layers(propagator, params.layers, subject.card.input_size, options)
    above = [load_layer(path, subject.device) for path in files.above]
    settings = plan[len(above)]
    log.info("%s", settings)
    rows = training_rows(subject.manifest, params.settings["train_images_per_class"], params.seed)
    trained = train_layer(
        propagator,
        subject.batches(rows, what=settings.layer),
        settings,
        above,
        list(EXPLAINERS),
        subject.card.classes,
        options,
        params.seed,
        log.info,
    )
    save_layer(snakemake.output.layer, trained)
