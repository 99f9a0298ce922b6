"""Read a data set in its own format into one manifest."""

from relmap.data.formats.classes import read_classes
from relmap.data.formats.cub import read_cub
from relmap.data.formats.folder import read_folder
from relmap.data.formats.imagenet import read_imagenet
from relmap.data.manifest import write_manifest
from relmap.job.files import read_json
from relmap.job.logs import job

READERS = {"cub200_2011": read_cub, "imagenet": read_imagenet, "folder": read_folder}

with job(snakemake.log[0]) as log:
    params, dataset = snakemake.params, snakemake.wildcards.dataset
    card, form = read_json(snakemake.input.card), params.format or dataset
    options = {}
    if form != "cub200_2011":
        options = {"require_training": params.trains, "classes": params.classes and read_classes(params.classes)}
    manifest = READERS[form](card["root"], dataset=dataset, workers=snakemake.threads, **options)
    log.info("%s: %d images, %d classes", dataset, len(manifest), len(manifest.info.class_names))
    write_manifest(manifest.frame, snakemake.output.manifest, manifest.info)
