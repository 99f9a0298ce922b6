"""Train a whole network for images of several classes, from the weights that it, or its like, has on the base."""

from pathlib import Path

from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import ModelCard, load_model, save_model
from relmap.models.sources import accuracies, normalisation_of, preprocessing_of, training_source
from relmap.models.training import TrainingConfig, train, write_history
from relmap.models.transfer import transferred

with job(snakemake.log[0], snakemake.threads) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    recipe = TrainingConfig.from_mapping({**params.training, "precision": params.precision})
    size, width = params.model["input_size"], params.model["width"]
    manifest = read_manifest(snakemake.input.manifest)
    base, lent = load_model(snakemake.input.initial)
    # Its first layer knows the colours as they were normalised for it.
    colours = {key: tuple(lent.preprocessing[key]) for key in ("mean", "std")}
    preprocessing = preprocessing_of({**params.model["seen"], **colours}, params.model["resize"], size)
    classes = manifest.info.class_names
    model = transferred(
        base,
        name,
        len(classes),
        width,
        size,
        keep_last=False,
        seed=params.seed,
        source=str(snakemake.input.initial),
    ).to(choose_device(params.device))
    checkpoint = Path(f"{snakemake.output.weights}.checkpoint")
    fit = train(
        model,
        training_source(manifest, preprocessing, snakemake.threads, multi_label=True),
        recipe,
        normalisation_of(preprocessing),
        size,
        seed=params.seed,
        checkpoint=checkpoint,
        identity=f"{manifest.info.fingerprint} {lent.sha256}",
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
        accuracies(model, manifest, preprocessing, workers=snakemake.threads, multi_label=True),
        f"trained on {manifest.info.dataset} from {lent.architecture}, {lent.origin}; best epoch {fit.best_epoch}",
        multi_label=True,
    )
    log.info("mean average precision %s", card.accuracies)
    write_history(fit.history, snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
    checkpoint.unlink(missing_ok=True)
