"""
Metrics: tidy rows per pair of image and target, method, metric and level, over all of a metric's methods. One job for each
metric that asks the network; one for all others of a data set and model, which take less time than the start of a job.
Where `compute.parts` is more than 1, so many jobs divide the pairs of each, and another puts their rows together; but pairs
of some metrics must stay together.

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
        metric=alternatives(name for name in ROWS.metrics if asks_network(name) and not divided(name)),
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("score", reads=True)
    resources:
        mem_mb=memory_of("score"),
        runtime=minutes_of("score"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        methods=lambda w: method_rows(w.dataset, w.model, [w.metric]),
        metrics=lambda w: metrics_scored(w.dataset, w.model, [w.metric]),
        arms=lambda w: [
            [arm.methods, len(arm.files), arm.settings] for arm in arms_scored(w.dataset, w.model, w.metric)
        ],
        share=share_of,
        seed=lookup(dpath="seed", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Scoring {wildcards.metric} on {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/score.py"


if PARTS > 1:

    use rule score as score_part with:
        output:
            scores=[temp(shared("scores/{dataset}/{model}/{metric}.parquet"))],
        log:
            shared("logs/score/{dataset}/{model}/{metric}.log"),
        benchmark:
            shared("benchmarks/score/{dataset}/{model}/{metric}.tsv")
        wildcard_constraints:
            metric=alternatives(name for name in ROWS.metrics if asks_network(name) and divided(name)),

    rule gather_scores:
        input:
            scores=gather.pairs(shared("scores/{dataset}/{model}/{metric}.parquet"), allow_missing=True),
            library=library("workflow/scripts/gather_scores.py"),
        output:
            scores="<results>/scores/{dataset}/{model}/{metric}.parquet",
        log:
            "<logs>/gather_scores/{dataset}/{model}/{metric}.log",
        benchmark:
            "<benchmarks>/gather_scores/{dataset}/{model}/{metric}.tsv"
        wildcard_constraints:
            metric=alternatives(name for name in ROWS.metrics if divided(name)),
        conda:
            "../../envs/relmap.yaml"
        threads: threads_of("gather_scores")
        resources:
            mem_mb=memory_of("gather_scores"),
            runtime=minutes_of("gather_scores"),
        params:
            methods=lambda w: scored(w.dataset, w.model, [w.metric]),
        message:
            "Putting the scores of {wildcards.metric} on {wildcards.dataset} with {wildcards.model} together"
        script:
            "../scripts/gather_scores.py"


for dataset_, model_, divided_, metrics_ in metrics_of_maps():

    rule:
        name:
            "_".join(["score_maps", dataset_, model_, *(["part"] if divided_ else [])])
        input:
            manifest=f"<results>/manifests/{dataset_}.parquet",
            targets=f"<results>/targets/{dataset_}/{model_}.parquet",
            card=f"<results>/models/{dataset_}/{model_}.json",
            stores=ancient(stores_of(dataset_, model_, metrics_)),
            hashes=hashes_of(dataset_, model_, metrics_),
            library=library_of_metrics(metrics_),
        output:
            scores=[
                passing(shared(f"scores/{dataset_}/{model_}/{metric}.parquet", divided_), divided_)
                for metric in metrics_
            ],
        log:
            shared(f"logs/score/{dataset_}/{model_}/maps.log", divided_),
        benchmark:
            shared(f"benchmarks/score/{dataset_}/{model_}/maps.tsv", divided_)
        conda:
            "../../envs/relmap.yaml"
        threads: threads_of("score", reads=True)
        resources:
            mem_mb=memory_of("score", dataset=dataset_, model=model_),
            runtime=minutes_of("score", dataset=dataset_, model=model_),
        params:
            methods=method_rows(dataset_, model_, metrics_),
            metrics=metrics_scored(dataset_, model_, metrics_),
            arms=[],
            share=share_of,
            seed=lookup(dpath="seed", within=config),
            device=lookup(dpath="compute/device", within=config),
            batch_size=lookup(dpath="compute/batch_size", within=config),
        message:
            f"Scoring {', '.join(metrics_)} on {dataset_} with {model_}"
        script:
            "../scripts/score.py"
