"""Train a whole network from random weights."""

from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.finished import checkpoint_of, write_trained
from relmap.models.sources import normalisation_of, preprocessing_of, training_source
from relmap.models.training import TrainingConfig, train
from relmap.models.zoo import build

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    recipe = TrainingConfig.from_mapping({**params.training, "precision": params.precision})
    size, width = params.model["input_size"], params.model["width"]
    manifest = read_manifest(snakemake.input.manifest)
    preprocessing = preprocessing_of(params.model["seen"], params.model["resize"], size)
    classes = manifest.info.class_names
    model = build(name, len(classes), width, size, seed=params.seed, device=choose_device(params.device))
    fit = train(
        model,
        training_source(manifest, preprocessing, snakemake.threads),
        recipe,
        normalisation_of(preprocessing),
        size,
        seed=params.seed,
        checkpoint=checkpoint_of(snakemake.output.weights),
        identity=manifest.info.fingerprint,
        name=name,
    )
    card = write_trained(
        model,
        fit,
        snakemake.output.weights,
        snakemake.output.history,
        manifest=manifest,
        preprocessing=preprocessing,
        workers=snakemake.threads,
        architecture=name,
        width=width,
        input_size=size,
        origin=f"trained on {manifest.info.dataset} from random weights; best epoch {fit.best_epoch}",
    )
    log.info("accuracies %s", card.accuracies)
