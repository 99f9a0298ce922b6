"""Train a whole network for images of several classes, from the weights that it, or its like, has on the base."""

from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import load_model
from relmap.models.finished import checkpoint_of, write_trained
from relmap.models.sources import normalisation_of, preprocessing_of, training_source
from relmap.models.training import TrainingConfig, train
from relmap.models.transfer import transferred

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
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
    fit = train(
        model,
        training_source(manifest, preprocessing, snakemake.threads, multi_label=True),
        recipe,
        normalisation_of(preprocessing),
        size,
        seed=params.seed,
        checkpoint=checkpoint_of(snakemake.output.weights),
        identity=f"{manifest.info.fingerprint} {lent.sha256}",
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
        origin=(
            f"trained on {manifest.info.dataset} from {lent.architecture}, {lent.origin}; best epoch {fit.best_epoch}"
        ),
        multi_label=True,
    )
    log.info("accuracies %s", card.accuracies)
