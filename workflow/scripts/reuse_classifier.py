"""Take the network of another data set of the same classes, as it is or slid as a convolution, and measure it here."""

from dataclasses import replace

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import load_model, save_model
from relmap.models.sources import accuracies
from relmap.models.training import write_history
from relmap.models.transfer import check_same_classes, transferred

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, name = snakemake.params, snakemake.params.model["architecture"]
    manifest = read_manifest(snakemake.input.manifest)
    model, lent = load_model(snakemake.input.lent)
    check_same_classes(lent, manifest.info.class_names, manifest.info.dataset)
    if lent.architecture != name:
        sizes = lent.classes, params.model["width"], lent.input_size
        model = transferred(model, name, *sizes, keep_last=True, source=str(snakemake.input.lent))
    as_lent = Preprocessing.from_dict(lent.preprocessing)
    fit, side = params.fit or as_lent.fit, params.model["input_size"]
    resize = params.model["resize"] if fit == "crop" else side
    preprocessing = replace(as_lent, fit=fit, resize=resize, crop=side)
    model = model.to(choose_device(params.device))
    found = accuracies(
        model,
        manifest,
        preprocessing,
        batch_size=params.batch_size,
        workers=snakemake.threads,
        multi_label=lent.multi_label,
    )
    log.info("accuracies %s", found)
    changed = "" if lent.architecture == name else f", as {name}"
    card = replace(
        lent,
        architecture=name,
        preprocessing=preprocessing.to_dict(),
        dataset=manifest.info.dataset,
        accuracies=found,
        origin=f"the network of {lent.dataset}{changed}: {lent.origin}",
    )
    write_history([], snakemake.output.history)
    save_model(model, snakemake.output.weights, card)
