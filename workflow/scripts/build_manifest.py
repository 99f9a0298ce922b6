"""Read a data set in its own format into one manifest."""

from relmap.catalogue.imported import imported
from relmap.data.formats.classes import read_classes
from relmap.data.manifest import write_manifest
from relmap.job.files import read_json
from relmap.job.logs import job

with job(snakemake.log[0]) as log:
    params, dataset = snakemake.params, snakemake.wildcards.dataset
    read = imported(params.reader, "relmap.data.formats")
    manifest = read(
        read_json(snakemake.input.card)["root"],
        dataset=dataset,
        classes=read_classes(snakemake.input.classes[0]) if snakemake.input.classes else None,
        require_training=params.trains,
        workers=snakemake.threads,
    )
    log.info("%s: %d images, %d classes", dataset, len(manifest), len(manifest.info.class_names))
    write_manifest(manifest.frame, snakemake.output.manifest, manifest.info)
