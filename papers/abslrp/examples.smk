"""
absLRP's examples of images.

Inputs: manifest, targets, classifier and, of Global Attribution Evaluation, its scores, of ImageNet's networks.
Outputs: below <results>/abslrp/imagenet/ {model}/trace.npz (Figures 2 to 4), {model}/extremes.npz (Figures 11 and 14),
{model}/classes.npz and its shares.parquet (Figures 7, 8 and 16), patches.npz (Figure 10); table abslrp_classes.
"""

from papers.abslrp.shown import ABSLRP, CLASS_METHODS, PATCH_MODELS, TRACED_METHODS

# The networks whose pictures of two classes are explained, of those that the run has.
CLASS_MODELS = [model for model in CLASS_METHODS if ("imagenet", model) in PAIRS]
CLASS_CONTROLS = list(next(paper for paper in PAPERS if paper.id == "abslrp").controls)
if CLASS_MODELS:
    EXTRA_TABLES.setdefault("abslrp", []).extend(formats("abslrp_classes", "csv", "md"))


# Global Attribution Evaluation, step by step.
rule trace_gae:
    input:
        manifest="<results>/manifests/imagenet.parquet",
        targets="<results>/targets/imagenet/{model}.parquet",
        weights="<results>/models/imagenet/{model}.safetensors",
        card="<results>/models/imagenet/{model}.json",
        scores="<results>/scores/imagenet/{model}/gae.parquet",
        library=library("papers/abslrp/scripts/trace_gae.py", *makers(TRACED_METHODS)),
    output:
        trace="<results>/abslrp/imagenet/{model}/trace.npz",
    log:
        "<logs>/trace_gae/{model}.log",
    benchmark:
        "<benchmarks>/trace_gae/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("trace_gae", reads=True)
    resources:
        mem_mb=memory_of("trace_gae", dataset="imagenet"),
        runtime=minutes_of("trace_gae", dataset="imagenet"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        settings=lookup(dpath="evaluation/gae", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Global Attribution Evaluation of one mosaic: {wildcards.model}"
    script:
        "scripts/trace_gae.py"


rule explain_extremes:
    input:
        manifest="<results>/manifests/imagenet.parquet",
        weights="<results>/models/imagenet/{model}.safetensors",
        card="<results>/models/imagenet/{model}.json",
        scores="<results>/scores/imagenet/{model}/gae.parquet",
        library=library("papers/abslrp/scripts/explain_extremes.py", *makers([ABSLRP])),
    output:
        extremes="<results>/abslrp/imagenet/{model}/extremes.npz",
    log:
        "<logs>/explain_extremes/{model}.log",
    benchmark:
        "<benchmarks>/explain_extremes/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_extremes", reads=True)
    resources:
        mem_mb=memory_of("explain_extremes", dataset="imagenet"),
        runtime=minutes_of("explain_extremes", dataset="imagenet"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        settings=lookup(dpath="abslrp/extremes", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Best and worst images by Global Attribution Evaluation: {wildcards.model}"
    script:
        "scripts/explain_extremes.py"


# Pictures with two classes.
rule explain_two_classes:
    input:
        manifest="<results>/manifests/imagenet.parquet",
        targets="<results>/targets/imagenet/{model}.parquet",
        weights="<results>/models/imagenet/{model}.safetensors",
        card="<results>/models/imagenet/{model}.json",
        library=lambda wildcards: library(
            "papers/abslrp/scripts/explain_two_classes.py", *makers([*CLASS_METHODS[wildcards.model], *CLASS_CONTROLS])
        ),
    output:
        examples="<results>/abslrp/imagenet/{model}/classes.npz",
        shares="<results>/abslrp/imagenet/{model}/shares.parquet",
    log:
        "<logs>/explain_two_classes/{model}.log",
    benchmark:
        "<benchmarks>/explain_two_classes/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_two_classes", reads=True)
    resources:
        mem_mb=memory_of("explain_two_classes", dataset="imagenet"),
        runtime=minutes_of("explain_two_classes", dataset="imagenet"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=lookup(dpath="abslrp/classes", within=config),
        methods=lambda wildcards: [*CLASS_METHODS[wildcards.model], *CLASS_CONTROLS],
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Maps of pictures with two classes: {wildcards.model}"
    script:
        "scripts/explain_two_classes.py"


rule tabulate_classes:
    input:
        shares=expand("<results>/abslrp/imagenet/{model}/shares.parquet", model=CLASS_MODELS),
        library=library("papers/abslrp/scripts/tabulate_classes.py"),
    output:
        csv="<results>/tables/abslrp_classes.csv",
        md="<results>/tables/abslrp_classes.md",
    log:
        "<logs>/tabulate_classes.log",
    benchmark:
        "<benchmarks>/tabulate_classes.tsv"
    group:
        "tables"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("tabulate_classes")
    resources:
        mem_mb=memory_of("tabulate_classes"),
        runtime=minutes_of("tabulate_classes"),
    params:
        models=CLASS_MODELS,
        resamples=lookup(dpath="evaluation/resamples", within=config),
        seed=lookup(dpath="seed", within=config),
    message:
        "Relevance in the halves of pictures with two classes"
    script:
        "scripts/tabulate_classes.py"


# Figure 10.
rule explain_patches:
    input:
        manifest="<results>/manifests/imagenet.parquet",
        targets=expand("<results>/targets/imagenet/{model}.parquet", model=PATCH_MODELS),
        weights=expand("<results>/models/imagenet/{model}.safetensors", model=PATCH_MODELS),
        cards=expand("<results>/models/imagenet/{model}.json", model=PATCH_MODELS),
        library=library("papers/abslrp/scripts/explain_patches.py", *makers([ABSLRP, "hires_cam"])),
    output:
        patches="<results>/abslrp/imagenet/patches.npz",
    log:
        "<logs>/explain_patches.log",
    benchmark:
        "<benchmarks>/explain_patches.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_patches", reads=True)
    resources:
        mem_mb=memory_of("explain_patches"),
        runtime=minutes_of("explain_patches"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        settings=lookup(dpath="abslrp/patches", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Maps of vision transformers of other patches"
    script:
        "scripts/explain_patches.py"
