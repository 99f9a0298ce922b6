"""Train the fully connected part of a pretrained network on another data set."""

from pathlib import Path

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import ModelCard, load_model, save_model
from relmap.models.sources import accuracies, normalisation_of, training_source
from relmap.models.training import TrainingConfig, finetune, write_history

with job(snakemake.log[0], snakemake.threads) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    recipe = TrainingConfig.from_mapping({**params.training, "precision": params.precision})
    manifest = read_manifest(snakemake.input.manifest)
    model, pretrained = load_model(snakemake.input.pretrained, choose_device(params.device))
    preprocessing = Preprocessing.from_dict(pretrained.preprocessing)
    classes = manifest.info.class_names
    checkpoint = Path(f"{snakemake.output.weights}.checkpoint")
    fit = finetune(
        model,
        name,
        len(classes),
        training_source(manifest, preprocessing, snakemake.threads),
        recipe,
        normalisation_of(preprocessing),
        pretrained.input_size,
        seed=params.seed,
        checkpoint=checkpoint,
        identity=f"{manifest.info.fingerprint} {pretrained.sha256}",
        name=name,
    )
    card = ModelCard(
        name,
        len(classes),
        pretrained.width,
        pretrained.input_size,
        preprocessing.to_dict(),
        manifest.info.dataset,
        classes,
        accuracies(model, manifest, preprocessing, workers=snakemake.threads),
        f"fully connected part trained on {manifest.info.dataset}, the rest {pretrained.origin}",
    )
    log.info("accuracies %s", card.accuracies)
    write_history(fit.history, snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
    checkpoint.unlink(missing_ok=True)
