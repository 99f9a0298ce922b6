"""
Relevance maps: one job makes, for one data set and model, all methods that share a forward pass; one store a method.

Inputs: manifest, targets (which pairs), classifier; for methods that need them, artifacts such as CLA-layers.
Outputs: <results>/maps/{dataset}/{model}/{method}.zarr and .json.
"""

for batch, methods in METHOD_BATCHES.items():

    rule:
        name:
            f"attribute_{batch}"
        input:
            manifest="<results>/manifests/{dataset}.parquet",
            targets="<results>/targets/{dataset}/{model}.parquet",
            weights="<results>/models/{dataset}/{model}.safetensors",
            card="<results>/models/{dataset}/{model}.json",
            artifacts=artifacts_of(batch),
            library=library("workflow/scripts/attribute.py", *makers(methods)),
        output:
            stores=directory(expand("<results>/maps/{{dataset}}/{{model}}/{method}.zarr", method=methods)),
            hashes=expand("<results>/maps/{{dataset}}/{{model}}/{method}.json", method=methods),
        log:
            f"<logs>/attribute_{batch}/{{dataset}}/{{model}}.log",
        benchmark:
            f"<benchmarks>/attribute_{batch}/{{dataset}}/{{model}}.tsv"
        conda:
            "../../envs/relmap.yaml"
        threads: 1
        resources:
            mem_mb=3000,
            runtime=240,
            gpu=lookup(dpath="compute/gpus", within=config),
        params:
            methods=[METHODS[method].to_dict() for method in methods],
            settings=settings_of(batch),
            device=lookup(dpath="compute/device", within=config),
            batch_size=lookup(dpath="compute/batch_size", within=config),
        message:
            "Explaining {wildcards.dataset} with {wildcards.model}"
        script:
            "../scripts/attribute.py"
