"""Train the fully connected part of a pretrained network on another data set."""

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import load_model
from relmap.models.finished import checkpoint_of, write_trained
from relmap.models.sources import normalisation_of, training_source
from relmap.models.training import TrainingConfig, finetune

with job(snakemake.log[0], snakemake.threads) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    recipe = TrainingConfig.from_mapping({**params.training, "precision": params.precision})
    manifest = read_manifest(snakemake.input.manifest)
    model, pretrained = load_model(snakemake.input.pretrained, choose_device(params.device))
    preprocessing = Preprocessing.from_dict(pretrained.preprocessing)
    classes = manifest.info.class_names
    fit = finetune(
        model,
        name,
        len(classes),
        training_source(manifest, preprocessing, snakemake.threads),
        recipe,
        normalisation_of(preprocessing),
        pretrained.input_size,
        seed=params.seed,
        checkpoint=checkpoint_of(snakemake.output.weights),
        identity=f"{manifest.info.fingerprint} {pretrained.sha256}",
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
        width=pretrained.width,
        input_size=pretrained.input_size,
        origin=f"fully connected part trained on {manifest.info.dataset}, the rest {pretrained.origin}",
    )
    log.info("accuracies %s", card.accuracies)
