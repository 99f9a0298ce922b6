"""
Metrics: tidy rows per pair of image and target, method, metric and level; one job a metric, over all of its methods.

Inputs: map stores with their content hashes, manifests, targets.
Outputs: <results>/scores/{dataset}/{model}/{metric}.parquet.
"""


rule score:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        targets="<results>/targets/{dataset}/{model}.parquet",
        card="<results>/models/{dataset}/{model}.json",
        weights=weights_of,
        stores=ancient(stores_of),
        hashes=hashes_of,
        library=metric_library,
    output:
        scores="<results>/scores/{dataset}/{model}/{metric}.parquet",
    log:
        "<logs>/score/{dataset}/{model}/{metric}.log",
    benchmark:
        "<benchmarks>/score/{dataset}/{model}/{metric}.tsv"
    wildcard_constraints:
        metric=alternatives(ROWS.metrics),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=lambda wildcards: config["compute"]["gpus"] if needs_model(wildcards) else 0,
    params:
        methods=scored,
        rows=lambda wildcards: [ROWS.methods[method].to_dict() for method in scored(wildcards)],
        score=lambda wildcards: ROWS.metrics[wildcards.metric].score,
        settings=lambda wildcards: metric_settings(ROWS.metrics[wildcards.metric], config["evaluation"]),
        seed=lookup(dpath="seed", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Scoring {wildcards.metric} on {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/score.py"
