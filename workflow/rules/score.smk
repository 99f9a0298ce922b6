"""
Metrics: tidy rows per pair of image and target, method, metric and level, over all of a metric's methods. One job for each
metric that asks the network; one for all others of a data set and model, which take less time than the start of a job.

Inputs: map stores with their content hashes, manifests, targets; for metrics that make maps of all methods, artifacts.
Outputs: <results>/scores/{dataset}/{model}/{metric}.parquet.
"""


rule score:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        targets="<results>/targets/{dataset}/{model}.parquet",
        card="<results>/models/{dataset}/{model}.json",
        weights="<results>/models/{dataset}/{model}.safetensors",
        stores=ancient(lambda w: stores_of(w.dataset, w.model, [w.metric])),
        hashes=lambda w: hashes_of(w.dataset, w.model, [w.metric]),
        artifacts=lambda w: [path for arm in arms_scored(w.dataset, w.model, w.metric) for path in arm.files],
        library=lambda w: library_of_metrics([w.metric]),
    output:
        scores=["<results>/scores/{dataset}/{model}/{metric}.parquet"],
    log:
        "<logs>/score/{dataset}/{model}/{metric}.log",
    benchmark:
        "<benchmarks>/score/{dataset}/{model}/{metric}.tsv"
    wildcard_constraints:
        metric=alternatives(name for name in ROWS.metrics if asks_network(name)),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        methods=lambda w: method_rows(w.dataset, w.model, [w.metric]),
        metrics=lambda w: metrics_scored(w.dataset, w.model, [w.metric]),
        arms=lambda w: [
            [arm.methods, len(arm.files), arm.settings] for arm in arms_scored(w.dataset, w.model, w.metric)
        ],
        seed=lookup(dpath="seed", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Scoring {wildcards.metric} on {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/score.py"


for dataset_, model_, metrics_ in METRICS_OF_MAPS:

    rule:
        name:
            f"score_maps_{dataset_}_{model_}"
        input:
            manifest=f"<results>/manifests/{dataset_}.parquet",
            targets=f"<results>/targets/{dataset_}/{model_}.parquet",
            card=f"<results>/models/{dataset_}/{model_}.json",
            stores=ancient(stores_of(dataset_, model_, metrics_)),
            hashes=hashes_of(dataset_, model_, metrics_),
            library=library_of_metrics(metrics_),
        output:
            scores=[f"<results>/scores/{dataset_}/{model_}/{metric}.parquet" for metric in metrics_],
        log:
            f"<logs>/score/{dataset_}/{model_}/maps.log",
        benchmark:
            f"<benchmarks>/score/{dataset_}/{model_}/maps.tsv"
        conda:
            "../../envs/relmap.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=240,
        params:
            methods=method_rows(dataset_, model_, metrics_),
            metrics=metrics_scored(dataset_, model_, metrics_),
            arms=[],
            seed=lookup(dpath="seed", within=config),
            device=lookup(dpath="compute/device", within=config),
            batch_size=lookup(dpath="compute/batch_size", within=config),
        message:
            f"Scoring {', '.join(metrics_)} on {dataset_} with {model_}"
        script:
            "../scripts/score.py"
