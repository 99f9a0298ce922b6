"""Bring published weights, or someone's own, into relmap's form, and measure them on the validation images."""

from pathlib import Path

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.errors import InputError
from relmap.job.device import choose_device
from relmap.job.files import sha256_file
from relmap.job.logs import job
from relmap.models.card import ModelCard, save_model
from relmap.models.sources import accuracies
from relmap.models.training import write_history
from relmap.models.weights import load_own, load_published
from relmap.models.zoo import architecture_of

with job(snakemake.log[0], snakemake.threads) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    source = Path(str(snakemake.input.published))
    size, width, published = params.model["input_size"], params.model["width"], params.model["weights"] == "torchvision"
    manifest = read_manifest(snakemake.input.manifest)
    preprocessing, classes = Preprocessing(params.model["resize"], size), manifest.info.class_names
    if width != 1:
        raise InputError(
            f"models.{snakemake.wildcards.model}: weights from a file have width 1.0, not {width}; set `width: 1.0`"
        )
    model = load_published(source, name) if published else load_own(source, name)
    outputs = model.get_submodule(architecture_of(name).last).out_features
    if outputs != len(classes):
        raise InputError(
            f"{source}: a network of {outputs} classes, but {manifest.info.dataset} has {len(classes)}; name all of "
            f"them in the order of its outputs in a file, `datasets.{manifest.info.dataset}.classes`"
        )
    model = model.to(choose_device(params.device)).eval()
    found = accuracies(model, manifest, preprocessing, ["test"], params.batch_size, snakemake.threads)
    log.info("accuracies %s", found)
    card = ModelCard(
        name,
        len(classes),
        width,
        size,
        preprocessing.to_dict(),
        manifest.info.dataset,
        classes,
        found,
        f"{'torchvision' if published else 'own weights'}: {source.name}, sha256 {sha256_file(source)}",
    )
    write_history([], snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
