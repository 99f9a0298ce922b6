"""Train a pretrained network on another data set: its fully connected part, its last stage, or all of it."""

import copy

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import load_model
from relmap.models.finished import checkpoint_of, write_trained
from relmap.models.sources import normalisation_of, preprocessing_of, training_source
from relmap.models.training import TrainingConfig, cache_features, finetune, trained_part
from relmap.models.transfer import transferred
from relmap.models.zoo import architecture_of

PARTS = {"head": "fully connected part trained on {}, the rest", "all": "all of it trained on {}, before that"}

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    recipe = TrainingConfig.from_mapping({**params.training, "precision": params.precision})
    manifest = read_manifest(snakemake.input.manifest)
    base, pretrained = load_model(snakemake.input.pretrained)
    preprocessing, size = Preprocessing.from_dict(pretrained.preprocessing), pretrained.input_size
    classes = manifest.info.class_names
    if pretrained.architecture != name:
        # Its first layer knows the colours as they were normalised for it.
        colours = {key: tuple(pretrained.preprocessing[key]) for key in ("mean", "std")}
        size = params.model["input_size"]
        preprocessing = preprocessing_of({**params.model["seen"], **colours}, params.model["resize"], size)
    source = training_source(manifest, preprocessing, snakemake.threads)
    lent, sizes = str(snakemake.input.pretrained), (len(classes), params.model["width"], size)
    stage = f"{architecture_of(name).stage} and what follows trained on {{}}, the rest"
    part = PARTS.get(recipe.trainable, stage)
    features = None
    # Networks that differ in their seed alone; each is what it would be in a job of its own. They share the features of
    # what is not trained, by the seed of the first, whether or not that one is among them.
    for seed, weights, history in zip(params.seeds, snakemake.output.weights, snakemake.output.history, strict=True):
        if pretrained.architecture != name:
            model = transferred(base, name, *sizes, keep_last=False, seed=seed, source=lent)
        else:
            model = copy.deepcopy(base)
        model = model.to(choose_device(params.device))
        if recipe.trainable != "all" and features is None:
            first, _ = trained_part(model, name, recipe.trainable)
            looking = (source, recipe, normalisation_of(preprocessing), size)
            features = cache_features(model, first, *looking, seed=params.views_seed, name=name)
        fit = finetune(
            model,
            name,
            len(classes),
            source,
            recipe,
            normalisation_of(preprocessing),
            size,
            seed=seed,
            checkpoint=checkpoint_of(weights),
            identity=f"{manifest.info.fingerprint} {pretrained.sha256}",
            name=name,
            features=features,
        )
        card = write_trained(
            model,
            fit,
            weights,
            history,
            manifest=manifest,
            preprocessing=preprocessing,
            workers=snakemake.threads,
            architecture=name,
            width=pretrained.width,
            input_size=size,
            origin=f"{part.format(manifest.info.dataset)} {pretrained.origin}",
        )
        log.info("seed %d: accuracies %s", seed, card.accuracies)
