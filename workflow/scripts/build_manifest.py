"""Read a data set in its own format into one manifest, and count its pairs."""

from inspect import signature

from relmap.catalogue.imported import imported
from relmap.data.counts import count_pairs, differences
from relmap.data.formats.classes import classes_of, read_classes
from relmap.data.manifest import read_manifest, refuse_links, write_manifest
from relmap.data.retrieve.archive import check_unpacked
from relmap.errors import InputError
from relmap.job.files import read_json, write_json
from relmap.job.logs import job

with job(snakemake.log[0]) as log:
    files, params, dataset = snakemake.input, snakemake.params, snakemake.wildcards.dataset
    read = imported(params.reader, "relmap.data.formats")
    classes = read_classes(files.classes[0]) if files.classes else None
    if files.classifier:
        classes = classes_of(read_manifest(files.classifier[0]).info)
    card = read_json(files.card)
    check_unpacked(card["root"])
    given = {"exclude": params.exclude} if params.exclude else {}
    if given and "exclude" not in signature(read).parameters:
        raise InputError(f"config: `datasets.{dataset}.exclude`: its reader takes no `exclude`; remove the key")
    manifest = read(
        card["root"],
        dataset=dataset,
        classes=classes,
        require_training=params.trains,
        workers=snakemake.threads,
        **given,
    )
    if card.get("source") == "retrieve":
        refuse_links(manifest, snakemake.threads)
    log.info("%s: %d images, %d classes", dataset, len(manifest), len(manifest.info.class_names))
    if params.exclude:
        log.warning("%s: %d images are left out: %s", dataset, len(params.exclude), ", ".join(params.exclude))
    counts = count_pairs(manifest)
    other = differences(counts, params.published)
    for line in other:
        log.warning("%s: not the published data set, %s", dataset, line)
    write_manifest(manifest.frame, snakemake.output.manifest, manifest.info, manifest.states)
    write_json(snakemake.output.counts, {"counts": counts, "published": params.published, "differences": other})
