"""Train a whole network from random weights."""

from pathlib import Path

from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import ModelCard, save_model
from relmap.models.sources import accuracies, normalisation_of, preprocessing_of, training_source
from relmap.models.training import TrainingConfig, train, write_history
from relmap.models.zoo import build

with job(snakemake.log[0], snakemake.threads) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    recipe = TrainingConfig.from_mapping({**params.training, "precision": params.precision})
    size, width = params.model["input_size"], params.model["width"]
    manifest = read_manifest(snakemake.input.manifest)
    preprocessing = preprocessing_of(params.model["seen"], params.model["resize"], size)
    classes = manifest.info.class_names
    model = build(name, len(classes), width, size, seed=params.seed, device=choose_device(params.device))
    checkpoint = Path(f"{snakemake.output.weights}.checkpoint")
    fit = train(
        model,
        training_source(manifest, preprocessing, snakemake.threads),
        recipe,
        normalisation_of(preprocessing),
        size,
        seed=params.seed,
        checkpoint=checkpoint,
        identity=manifest.info.fingerprint,
        name=name,
    )
    card = ModelCard(
        name,
        len(classes),
        width,
        size,
        preprocessing.to_dict(),
        manifest.info.dataset,
        classes,
        accuracies(model, manifest, preprocessing, workers=snakemake.threads),
        f"trained on {manifest.info.dataset} from random weights; best epoch {fit.best_epoch}",
    )
    log.info("accuracies %s", card.accuracies)
    write_history(fit.history, snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
    checkpoint.unlink(missing_ok=True)
