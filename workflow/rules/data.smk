"""
From nothing to one manifest per data set.

Inputs: the config's sizes (rendered data), or resources/downloads.csv and the files it names (real data).
Outputs: <results>/data/{dataset}.json, <results>/manifests/{dataset}.parquet.
"""

if "cub200_2011" in sources("render"):

    rule render_cub:
        input:
            library=library("workflow/scripts/render_cub.py"),
        output:
            root=directory("<results>/data/cub200_2011"),
            card="<results>/data/cub200_2011.json",
        log:
            "<logs>/render_cub.log",
        benchmark:
            "<benchmarks>/render_cub.tsv"
        conda:
            "../../envs/relmap.yaml"
        threads: 1
        resources:
            mem_mb=1500,
            runtime=20,
        params:
            seed=lookup(dpath="seed", within=config),
            sizes=lookup(dpath="datasets/cub200_2011/render", within=config),
        message:
            "Rendering birds in CUB-200-2011's format"
        script:
            "../scripts/render_cub.py"


if "imagenet" in sources("render"):

    rule render_imagenet:
        input:
            library=library("workflow/scripts/render_imagenet.py"),
        output:
            root=directory("<results>/data/imagenet"),
            card="<results>/data/imagenet.json",
        log:
            "<logs>/render_imagenet.log",
        benchmark:
            "<benchmarks>/render_imagenet.tsv"
        conda:
            "../../envs/relmap.yaml"
        threads: 1
        resources:
            mem_mb=1500,
            runtime=20,
        params:
            seed=lookup(dpath="seed", within=config),
            sizes=lookup(dpath="datasets/imagenet/render", within=config),
        message:
            "Rendering objects in ILSVRC 2012's format"
        script:
            "../scripts/render_imagenet.py"


# An interrupted transfer goes on from a hidden file beside the output. Files that need a login are named with their place.
rule retrieve_file:
    input:
        table=ancient(here("resources/downloads.csv")),
    output:
        file="<data_root>/{collection}/archives/{file}",
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


rule unpack_archive:
    input:
        archive="<data_root>/{dataset}/archives/{file}",
        table=ancient(here("resources/downloads.csv")),
    output:
        mark=touch("<data_root>/{dataset}/.unpacked/{file}"),
    log:
        "<logs>/unpack_archive/{dataset}/{file}.log",
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=600,
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
        library=library("workflow/scripts/build_manifest.py"),
    output:
        manifest="<results>/manifests/{dataset}.parquet",
    log:
        "<logs>/build_manifest/{dataset}.log",
    benchmark:
        "<benchmarks>/build_manifest/{dataset}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        format=lookup(dpath="datasets/{dataset}/format", within=config),
        classes=lookup(dpath="datasets/{dataset}/classes", within=config),
        trains=trains_on,
    message:
        "Reading {wildcards.dataset} into one manifest"
    script:
        "../scripts/build_manifest.py"
