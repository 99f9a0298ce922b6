"""
From nothing to one manifest per data set.

Inputs: the config's sizes (rendered data), or resources/downloads.csv and the files it names (real data).
Outputs: <results>/data/{dataset}.json, <results>/manifests/{dataset}.parquet and .json, its counts.
"""


rule render_dataset:
    input:
        library=lambda wildcards: library(
            "workflow/scripts/render_dataset.py", maker_file(renderer_of(wildcards), "workflow/relmap/data/render")
        ),
    output:
        root=directory("<results>/data/{dataset}"),
        card="<results>/data/{dataset}.json",
    log:
        "<logs>/render_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/render_dataset/{dataset}.tsv"
    wildcard_constraints:
        dataset=alternatives(sources("render")),
    # All else waits for it.
    priority: 40
    group:
        "data_{dataset}"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("render_dataset")
    resources:
        mem_mb=memory_of("render_dataset"),
        runtime=minutes_of("render_dataset"),
    params:
        renderer=renderer_of,
        seed=lookup(dpath="seed", within=config),
        sizes=lookup(dpath="datasets/{dataset}/render", within=config),
    message:
        "Rendering {wildcards.dataset} in its own format"
    script:
        "../scripts/render_dataset.py"


# An interrupted transfer goes on from a hidden file beside the output. Files that need a login are named with their place.
rule retrieve_file:
    input:
        table=ancient(here("resources/downloads.csv")),
    output:
        # Another run, with the same data_root, may have it by now: it is verified then, not removed.
        file=update("<data_root>/{collection}/archives/{file}"),
    log:
        "<logs>/retrieve_file/{collection}/{file}.log",
    localrule: True
    conda:
        "../../envs/relmap.yaml"
    params:
        mirror=lookup(dpath="data_mirror", within=config),
        identity=identity,
    message:
        "Retrieving {wildcards.file}"
    script:
        "../scripts/retrieve_file.py"


# The mark says what the archive became. Where another run was faster, its mark is found.
rule unpack_archive:
    input:
        archive="<data_root>/{dataset}/archives/{file}",
        table=ancient(here("resources/downloads.csv")),
    output:
        mark=update("<data_root>/{dataset}/.unpacked/{file}"),
    log:
        "<logs>/unpack_archive/{dataset}/{file}.log",
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        # Guesses: what is measured here is rendered, not unpacked.
        mem_mb=lambda wildcards, attempt: attempt * 1500,
        runtime=lambda wildcards, attempt: attempt * 600,
    params:
        root=subpath(output.mark, ancestor=2),
        folder=destination,
    message:
        "Unpacking {wildcards.file}"
    script:
        "../scripts/unpack_archive.py"


rule register_dataset:
    input:
        marks=unpacked,
    output:
        card="<results>/data/{dataset}.json",
    log:
        "<logs>/register_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=alternatives(sources("retrieve", "local")),
    localrule: True
    conda:
        "../../envs/relmap.yaml"
    params:
        source=lookup(dpath="datasets/{dataset}/source", within=config),
        root=root_of,
    message:
        "Registering {wildcards.dataset}"
    script:
        "../scripts/register_dataset.py"


rule build_manifest:
    input:
        card="<results>/data/{dataset}.json",
        classes=classes_of,
        classifier=classifier_of,
        library=lambda wildcards: library(
            "workflow/scripts/build_manifest.py", maker_file(reader_of(wildcards), "workflow/relmap/data/formats")
        ),
    output:
        manifest="<results>/manifests/{dataset}.parquet",
        files="<results>/manifests/{dataset}.files.parquet",
        counts="<results>/manifests/{dataset}.json",
    log:
        "<logs>/build_manifest/{dataset}.log",
    benchmark:
        "<benchmarks>/build_manifest/{dataset}.tsv"
    # All else waits for it.
    priority: 40
    group:
        "data_{dataset}"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("build_manifest")
    resources:
        mem_mb=memory_of("build_manifest"),
        runtime=minutes_of("build_manifest"),
    params:
        reader=reader_of,
        published=published_counts,
        trains=trains_on,
        exclude=left_out,
    message:
        "Reading {wildcards.dataset} into one manifest"
    script:
        "../scripts/build_manifest.py"
