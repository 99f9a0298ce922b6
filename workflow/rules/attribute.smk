"""
Relevance maps: one job makes all methods of a family for one data set and model, one store a method.

Inputs: manifest, predictions (which images), classifier; for CLAM its CLA-layers.
Outputs: <results>/maps/{dataset}/{model}/{method}.zarr and .json.
"""

for family in ["lrp", "baselines", *ARMS, UNTRAINED]:

    rule:
        name:
            f"attribute_{family}"
        input:
            manifest="<results>/manifests/{dataset}.parquet",
            predictions="<results>/predictions/{dataset}/{model}.parquet",
            weights="<results>/models/{dataset}/{model}.safetensors",
            card="<results>/models/{dataset}/{model}.json",
            layers=family_layers(family),
            library=library("workflow/scripts/attribute.py"),
        output:
            stores=directory(expand("<results>/maps/{{dataset}}/{{model}}/{method}.zarr", method=family_ids(family))),
            hashes=expand("<results>/maps/{{dataset}}/{{model}}/{method}.json", method=family_ids(family)),
        log:
            f"<logs>/attribute_{family}/{{dataset}}/{{model}}.log",
        benchmark:
            f"<benchmarks>/attribute_{family}/{{dataset}}/{{model}}.tsv"
        conda:
            "../../envs/relmap.yaml"
        threads: 1
        resources:
            mem_mb=3000,
            runtime=240,
            gpu=lookup(dpath="compute/gpus", within=config),
        params:
            seed=lookup(dpath="seed", within=config),
            family=family,
            methods=family_ids(family),
            target=lookup(dpath="evaluation/target", within=config),
            settings=family_settings(family),
            explainers=lookup(dpath="explainers", within=config),
            device=lookup(dpath="compute/device", within=config),
            batch_size=lookup(dpath="compute/batch_size", within=config),
        message:
            "Explaining {wildcards.dataset} with {wildcards.model}: {params.methods}"
        script:
            "../scripts/attribute.py"
