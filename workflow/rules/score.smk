"""
Metrics: tidy rows per pair of image and target, method, metric and level; one job a metric family, over all methods.

Inputs: map stores with their content hashes, manifests, targets.
Outputs: <results>/scores/{dataset}/{model}/{pointing,lerf,segmentation,attributes}.parquet.
"""


rule score_pointing:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        card="<results>/models/{dataset}/{model}.json",
        stores=ancient(stores_of),
        hashes=hashes_of,
        library=library("workflow/scripts/score_pointing.py"),
    output:
        scores="<results>/scores/{dataset}/{model}/pointing.parquet",
    log:
        "<logs>/score_pointing/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/score_pointing/{dataset}/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        methods=methods_of,
        energies=lookup(dpath="evaluation/energies", within=config),
    message:
        "Extended pointing game on {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/score_pointing.py"


rule score_lerf:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        targets="<results>/targets/{dataset}/{model}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        stores=ancient(stores_of),
        hashes=hashes_of,
        library=library("workflow/scripts/score_lerf.py"),
    output:
        scores="<results>/scores/{dataset}/{model}/lerf.parquet",
    log:
        "<logs>/score_lerf/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/score_lerf/{dataset}/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        methods=methods_of,
        lerf=lookup(dpath="evaluation/lerf", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Perturbing least relevant pixels first on {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/score_lerf.py"


rule score_segmentation:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        card="<results>/models/{dataset}/{model}.json",
        stores=ancient(stores_of),
        hashes=hashes_of,
        library=library("workflow/scripts/score_segmentation.py"),
    output:
        scores="<results>/scores/{dataset}/{model}/segmentation.parquet",
    log:
        "<logs>/score_segmentation/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/score_segmentation/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(SEGMENTED),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        methods=methods_of,
    message:
        "IoU with segmentations on {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/score_segmentation.py"


# Do the regions that a class's attributes choose fall on the parts that tell the class apart? (A.6 asks for this.)
rule score_attributes:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        targets="<results>/targets/{dataset}/{model}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        layers=clam_chain,
        untrained="<results>/clam/{dataset}/{model}/untrained",
        library=library("papers/clam/scripts/score_attributes.py"),
    output:
        scores="<results>/scores/{dataset}/{model}/attributes.parquet",
    log:
        "<logs>/score_attributes/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/score_attributes/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(PARTED),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Where attributes look on {wildcards.dataset} with {wildcards.model}"
    script:
        "../../papers/clam/scripts/score_attributes.py"
