"""
How far GAE and ROAD depend on chance and on the number of steps.

Inputs: manifest, targets and classifier of ImageNet's VGG-16.
Outputs: tables abslrp_variation, abslrp_variation_summary.
"""

from papers.abslrp.shown import VARIED_METHODS, VGG

if ("imagenet", VGG) in PAIRS:
    COMPUTED_TABLES["abslrp"] += ["abslrp_variation", "abslrp_variation_summary"]


rule vary_draws:
    input:
        manifest="<results>/manifests/imagenet.parquet",
        targets=f"<results>/targets/imagenet/{VGG}.parquet",
        weights=f"<results>/models/imagenet/{VGG}.safetensors",
        card=f"<results>/models/imagenet/{VGG}.json",
        library=library("papers/abslrp/scripts/vary_draws.py", *makers(VARIED_METHODS)),
    output:
        table="<results>/computed/abslrp_variation.parquet",
        summary="<results>/computed/abslrp_variation_summary.parquet",
    log:
        "<logs>/vary_draws.log",
    benchmark:
        "<benchmarks>/vary_draws.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("vary_draws", reads=True)
    resources:
        mem_mb=memory_of("vary_draws", dataset="imagenet", model=VGG),
        runtime=minutes_of("vary_draws", dataset="imagenet", model=VGG),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=lookup(dpath="abslrp/variation", within=config),
        evaluation=lambda wildcards: {
            name: config["evaluation"][name] for name in ("gae", "road", "ties", "confidence", "resamples")
        },
        methods=list(VARIED_METHODS),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "GAE and ROAD by other seeds and steps"
    script:
        "scripts/vary_draws.py"
