"""
Relevance maps: one job makes, for one data set and model, all methods that share a forward pass; one store a method.
Where `compute.parts` is more than 1, so many jobs divide the pairs, and another puts their stores together.

Inputs: manifest, targets (which pairs), classifier; for methods that need them, artifacts, files that a paper's rules make.
Outputs: <results>/maps/{dataset}/{model}/{method}.zarr and .json.
"""

for dataset_, model_, arm_, methods_ in BATCHES:

    rule:
        name:
            "_".join(["attribute", dataset_, model_, *([arm_] if arm_ != "plain" else [])])
        input:
            manifest=f"<results>/manifests/{dataset_}.parquet",
            targets=f"<results>/targets/{dataset_}/{model_}.parquet",
            weights=f"<results>/models/{dataset_}/{model_}.safetensors",
            card=f"<results>/models/{dataset_}/{model_}.json",
            artifacts=artifacts_of(arm_, dataset_, model_),
            library=library("workflow/scripts/attribute.py", *makers(methods_)),
        output:
            stores=[passing(directory(shared(f"maps/{dataset_}/{model_}/{method}.zarr"))) for method in methods_],
            hashes=[passing(shared(f"maps/{dataset_}/{model_}/{method}.json")) for method in methods_],
        log:
            shared(f"logs/attribute/{dataset_}/{model_}/{arm_}.log"),
        benchmark:
            shared(f"benchmarks/attribute/{dataset_}/{model_}/{arm_}.tsv")
        priority: 10
        conda:
            "../../envs/relmap.yaml"
        threads: threads_of("attribute", reads=True)
        resources:
            mem_mb=memory_of("attribute", dataset=dataset_, model=model_),
            runtime=minutes_of("attribute", dataset=dataset_, model=model_),
            gpu=lookup(dpath="compute/gpus", within=config),
        params:
            methods=[ROWS.methods[method].to_dict() for method in methods_],
            settings=artifact_settings(arm_, dataset_, model_),
            device=lookup(dpath="compute/device", within=config),
            batch_size=lookup(dpath="compute/batch_size", within=config),
            share=share_of,
        message:
            f"Explaining {dataset_} with {model_} ({arm_})"
        script:
            "../scripts/attribute.py"

    if PARTS > 1:

        rule:
            name:
                "_".join(["gather", dataset_, model_, *([arm_] if arm_ != "plain" else [])])
            input:
                targets=f"<results>/targets/{dataset_}/{model_}.parquet",
                stores=all_shares(f"maps/{dataset_}/{model_}/{method}.zarr" for method in methods_),
                hashes=all_shares(f"maps/{dataset_}/{model_}/{method}.json" for method in methods_),
                library=library("workflow/scripts/gather_maps.py"),
            output:
                stores=[directory(f"<results>/maps/{dataset_}/{model_}/{method}.zarr") for method in methods_],
                hashes=[f"<results>/maps/{dataset_}/{model_}/{method}.json" for method in methods_],
            log:
                f"<logs>/gather_maps/{dataset_}/{model_}/{arm_}.log",
            benchmark:
                f"<benchmarks>/gather_maps/{dataset_}/{model_}/{arm_}.tsv"
            priority: 10
            conda:
                "../../envs/relmap.yaml"
            threads: threads_of("gather_maps")
            resources:
                mem_mb=memory_of("gather_maps", dataset=dataset_, model=model_),
                runtime=minutes_of("gather_maps", dataset=dataset_, model=model_),
            message:
                f"Putting the maps of {dataset_} with {model_} together ({arm_})"
            script:
                "../scripts/gather_maps.py"
