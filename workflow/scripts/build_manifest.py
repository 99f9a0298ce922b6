"""Read a data set in its own format into one manifest."""

from relmap.data.formats.cub import read_cub
from relmap.data.formats.imagenet import read_imagenet
from relmap.data.manifest import write_manifest
from relmap.job.files import read_json
from relmap.job.logs import job

READERS = {"cub200_2011": read_cub, "imagenet": read_imagenet}

with job(snakemake.log[0]) as log:
    dataset = snakemake.wildcards.dataset
    card = read_json(snakemake.input.card)
    manifest = READERS[dataset](card["root"], dataset=dataset, workers=snakemake.threads)
    log.info("%s: %d images, %d classes", dataset, len(manifest), len(manifest.info.class_names))
    write_manifest(manifest.frame, snakemake.output.manifest, manifest.info)
