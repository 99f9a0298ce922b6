"""Bring published weights, or one's own, into relmap's form; measure them on their data set where the run has it."""

from pathlib import Path

from relmap.data.manifest import read_manifest
from relmap.errors import InputError
from relmap.job.device import choose_device
from relmap.job.files import sha256_file
from relmap.job.logs import job
from relmap.models.card import ModelCard, save_model
from relmap.models.sources import accuracies, preprocessing_of
from relmap.models.torchray import load_torchray
from relmap.models.training import write_history
from relmap.models.weights import load_own, load_published, refuse_another_look, seen_by
from relmap.models.zoo import architecture_of

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    source = Path(str(snakemake.input.published))
    size, width = params.model["input_size"], params.model["width"]
    manifest = read_manifest(snakemake.input.manifest[0]) if snakemake.input.manifest else None
    preprocessing = preprocessing_of(params.model["seen"], params.model["resize"], size)
    dataset = snakemake.wildcards.dataset
    classes = manifest.info.class_names if manifest else ()
    if width != 1:
        raise InputError(
            f"models.{snakemake.wildcards.model}: weights from a file have width 1.0, not {width}; set `width: 1.0`"
        )
    match publisher := params.model["weights"]:
        case "torchvision":
            model = load_published(source, name)
        case "torchray":
            model = load_torchray(source)
        case "timm":
            model = load_own(source, name, size)
        case _:
            model, publisher = load_own(source, name, size), "own weights"
    if said := seen_by(source):
        publisher = said[1]
        refuse_another_look(snakemake.wildcards.model, publisher, preprocessing, said[0])
    outputs = len(model.get_submodule(architecture_of(name).last).weight)
    if manifest and outputs != len(classes):
        raise InputError(
            f"{source}: a network of {outputs} classes, but {dataset} has {len(classes)}; name all of them in the "
            f"order of its outputs in a file, `datasets.{dataset}.classes`"
        )
    model = model.to(choose_device(params.device)).eval()
    found = {}
    if manifest:
        found = accuracies(
            model,
            manifest,
            preprocessing,
            ["test"],
            params.batch_size,
            snakemake.threads,
            multi_label=params.multi_label,
        )
    log.info("accuracies %s", found or f"not measured: the run shows nothing of {dataset}")
    card = ModelCard(
        name,
        outputs,
        width,
        size,
        preprocessing.to_dict(),
        dataset,
        classes,
        found,
        f"{publisher}: {source.name}, sha256 {sha256_file(source)}",
        multi_label=params.multi_label,
    )
    write_history([], snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
