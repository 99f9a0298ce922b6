"""Read a data set in its own format into one manifest, and count its pairs."""

from relmap.catalogue.imported import imported
from relmap.data.counts import count_pairs, differences
from relmap.data.formats.classes import classes_of, read_classes
from relmap.data.manifest import read_manifest, write_manifest
from relmap.job.files import read_json, write_json
from relmap.job.logs import job

with job(snakemake.log[0]) as log:
    files, params, dataset = snakemake.input, snakemake.params, snakemake.wildcards.dataset
    read = imported(params.reader, "relmap.data.formats")
    classes = read_classes(files.classes[0]) if files.classes else None
    if files.classifier:
        classes = classes_of(read_manifest(files.classifier[0]).info)
    manifest = read(
        read_json(files.card)["root"],
        dataset=dataset,
        classes=classes,
        require_training=params.trains,
        workers=snakemake.threads,
    )
    log.info("%s: %d images, %d classes", dataset, len(manifest), len(manifest.info.class_names))
    counts = count_pairs(manifest)
    other = differences(counts, params.published)
    for line in other:
        log.warning("%s: not the published data set, %s", dataset, line)
    write_manifest(manifest.frame, snakemake.output.manifest, manifest.info, manifest.states)
    write_json(snakemake.output.counts, {"counts": counts, "published": params.published, "differences": other})
