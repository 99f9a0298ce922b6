"""
Classifiers and what they predict.

Inputs: manifests; for published weights, the files that resources/downloads.csv names.
Outputs: <results>/models/{dataset}/{model}.safetensors with its card and curves, <results>/targets/...
"""


# The demo's "published weights": a short training on the data set that the others start from.
rule pretrain_classifier:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        library=model_library("workflow/scripts/pretrain_classifier.py"),
    output:
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        history="<results>/models/{dataset}/{model}.history.csv",
    log:
        "<logs>/pretrain_classifier/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/pretrain_classifier/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=re.escape(BASE),
        model=alternatives(trained()),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        model=model_settings,
        training=recipe("pretrain"),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Training {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/pretrain_classifier.py"


rule convert_weights:
    input:
        published=published_weights,
        manifest="<results>/manifests/{dataset}.parquet",
        library=model_library("workflow/scripts/convert_weights.py"),
    output:
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        history="<results>/models/{dataset}/{model}.history.csv",
    log:
        "<logs>/convert_weights/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/convert_weights/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=re.escape(BASE),
        model=alternatives([model for model in MODELS if model not in trained()]),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        model=model_settings,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Converting weights of {wildcards.model}: {input.published}"
    script:
        "../scripts/convert_weights.py"


# As in the paper: the convolutions stay, the fully connected part is trained.
rule finetune_classifier:
    input:
        pretrained=f"<results>/models/{BASE}/{{model}}.safetensors",
        manifest="<results>/manifests/{dataset}.parquet",
        library=model_library("workflow/scripts/finetune_classifier.py"),
    output:
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        history="<results>/models/{dataset}/{model}.history.csv",
    log:
        "<logs>/finetune_classifier/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/finetune_classifier/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives([name for name in DATASETS if name != BASE]),
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        model=model_settings,
        training=recipe("finetune"),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Fine-tuning {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/finetune_classifier.py"


# Its rows are the images that everything downstream explains and measures.
rule predict:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        library=library("workflow/scripts/predict.py"),
    output:
        targets="<results>/targets/{dataset}/{model}.parquet",
    log:
        "<logs>/predict/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/predict/{dataset}/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        max_images=lookup(dpath="evaluation/max_images", within=config),
        target=lookup(dpath="evaluation/target", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Predicting {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/predict.py"
