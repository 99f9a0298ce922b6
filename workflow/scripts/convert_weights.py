"""Bring torchvision's published weights into relmap's form, and measure them on the validation images."""

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.errors import InputError
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import ModelCard, save_model
from relmap.models.sources import accuracies
from relmap.models.training import write_history
from relmap.models.weights import load_published

with job(snakemake.log[0], snakemake.threads) as log:
    params, name, published = snakemake.params, snakemake.wildcards.model, str(snakemake.input.published)
    size, width = params.model["input_size"], params.model["width"]
    manifest = read_manifest(snakemake.input.manifest)
    preprocessing, classes = Preprocessing(params.model["resize"], size), manifest.info.class_names
    if width != 1 or len(classes) != 1000:
        raise InputError(
            f"models.{name}: torchvision's weights have width 1.0 and 1000 classes, not {width} and {len(classes)}; "
            "set `weights: train`, or take the full ImageNet and `width: 1.0`"
        )
    model = load_published(published, name, len(classes)).to(choose_device(params.device)).eval()
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
        f"torchvision's {published.rsplit('/', 1)[-1]}",
    )
    write_history([], snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
