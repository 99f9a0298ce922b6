"""
CLAM's own: CLA-layers, a job for each chain; the control without training; related training images; where attributes
look; ablations.

Inputs: manifest, classifier.
Outputs: below <results>/clam/{dataset}/{model}/{arm}/ the CLA-layers layers/{training}/{place}_{layer}.safetensors, place
counted from the output; related.zarr, the index of training images' best regions; examples.npz, regions and related images of some test
images. Tables clam_*.
"""


include: "common.smk"


wildcard_constraints:
    arm=alternatives([*ARMS, UNTRAINED_ARM]),


# All layers, explainers and trainings in one job, which goes on after its last layer when it was stopped.
rule train_cla_layers:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        library=library("papers/clam/scripts/train_cla_layers.py"),
    output:
        layers=directory("<results>/clam/{dataset}/{model}/{arm}/layers"),
    log:
        "<logs>/train_cla_layers/{dataset}/{model}/{arm}.log",
    benchmark:
        "<benchmarks>/train_cla_layers/{dataset}/{model}/{arm}.tsv"
    wildcard_constraints:
        arm=alternatives(ARMS),
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("train_cla_layers", reads=True)
    resources:
        mem_mb=memory_of("train_cla_layers"),
        disk_mb=1000,
        runtime=minutes_of("train_cla_layers"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        trainings=trainings_of_arm,
        layers=all_layers,
        settings=clam_settings,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Training the CLA-layers of {wildcards.model} on {wildcards.dataset} ({wildcards.arm})"
    script:
        "scripts/train_cla_layers.py"


# The control: the same layers as drawn at random, all in one job.
rule initialise_cla_layers:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        library=library("papers/clam/scripts/initialise_cla_layers.py"),
    output:
        layers=directory("<results>/clam/{dataset}/{model}/untrained/layers"),
    log:
        "<logs>/initialise_cla_layers/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/initialise_cla_layers/{dataset}/{model}.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("initialise_cla_layers")
    resources:
        mem_mb=memory_of("initialise_cla_layers"),
        runtime=minutes_of("initialise_cla_layers"),
    params:
        seed=lookup(dpath="seed", within=config),
        layers=untrained_layers,
        settings=clam_settings,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Drawing untrained CLA-layers of {wildcards.model} on {wildcards.dataset}"
    script:
        "scripts/initialise_cla_layers.py"


rule index_training_images:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        layers=rules.train_cla_layers.output.layers,
        library=library("papers/clam/scripts/index_training_images.py"),
    output:
        index=directory("<results>/clam/{dataset}/{model}/{arm}/related.zarr"),
    log:
        "<logs>/index_training_images/{dataset}/{model}/{arm}.log",
    benchmark:
        "<benchmarks>/index_training_images/{dataset}/{model}/{arm}.tsv"
    wildcard_constraints:
        arm=alternatives(ARMS),
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("index_training_images", reads=True)
    resources:
        mem_mb=memory_of("index_training_images"),
        runtime=minutes_of("index_training_images"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=clam_settings,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Indexing training images of {wildcards.dataset} by the attributes of {wildcards.model} ({wildcards.arm})"
    script:
        "scripts/index_training_images.py"


# Regions and related images of test images, for the layer sheets (Figures 4 and 14 to 18).
rule relate_images:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        targets="<results>/targets/{dataset}/{model}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        layers=rules.train_cla_layers.output.layers,
        index="<results>/clam/{dataset}/{model}/{arm}/related.zarr",
        library=library("papers/clam/scripts/relate_images.py"),
    output:
        examples="<results>/clam/{dataset}/{model}/{arm}/examples.npz",
    log:
        "<logs>/relate_images/{dataset}/{model}/{arm}.log",
    benchmark:
        "<benchmarks>/relate_images/{dataset}/{model}/{arm}.tsv"
    wildcard_constraints:
        arm=alternatives(ARMS),
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("relate_images", reads=True)
    resources:
        mem_mb=memory_of("relate_images"),
        runtime=minutes_of("relate_images"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=clam_settings,
        related=lookup(dpath="clam/related", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Relating test images of {wildcards.dataset} to training images ({wildcards.model}, {wildcards.arm})"
    script:
        "scripts/relate_images.py"


# Do the regions that a class's attributes choose fall on the parts that tell the class apart? (A.6 asks for this.)
rule score_attributes:
    input:
        manifest="<results>/manifests/{dataset}.parquet",
        targets="<results>/targets/{dataset}/{model}.parquet",
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        layers=f"<results>/clam/{{dataset}}/{{model}}/{CLAM_ARM}/layers",
        untrained=rules.initialise_cla_layers.output.layers,
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
    threads: threads_of("score_attributes", reads=True)
    resources:
        mem_mb=memory_of("score_attributes"),
        runtime=minutes_of("score_attributes"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Where attributes look on {wildcards.dataset} with {wildcards.model}"
    script:
        "scripts/score_attributes.py"


rule tabulate_controls:
    input:
        scores=scores_of(CLAM_PAPER),
        library=library("papers/clam/scripts/tabulate_controls.py"),
    output:
        csv="<results>/tables/clam_controls.csv",
        md="<results>/tables/clam_controls.md",
    log:
        "<logs>/tabulate_controls.log",
    benchmark:
        "<benchmarks>/tabulate_controls.tsv"
    group:
        "tables"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("tabulate_controls")
    resources:
        mem_mb=memory_of("tabulate_controls"),
        runtime=minutes_of("tabulate_controls"),
    params:
        seed=lookup(dpath="seed", within=config),
        resamples=lookup(dpath="evaluation/resamples", within=config),
        confidence=lookup(dpath="evaluation/confidence", within=config),
    message:
        "CLAM against its untrained control"
    script:
        "scripts/tabulate_controls.py"


rule tabulate_attributes:
    input:
        attributes=[f"<results>/scores/{dataset}/{model}/attributes.parquet" for dataset, model in PARTED_PAIRS],
        library=library("papers/clam/scripts/tabulate_attributes.py"),
    output:
        csv="<results>/tables/clam_attributes.csv",
        md="<results>/tables/clam_attributes.md",
    log:
        "<logs>/tabulate_attributes.log",
    benchmark:
        "<benchmarks>/tabulate_attributes.tsv"
    group:
        "tables"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("tabulate_attributes")
    resources:
        mem_mb=memory_of("tabulate_attributes"),
        runtime=minutes_of("tabulate_attributes"),
    params:
        seed=lookup(dpath="seed", within=config),
        resamples=lookup(dpath="evaluation/resamples", within=config),
        confidence=lookup(dpath="evaluation/confidence", within=config),
    message:
        "Whether attributes look at the parts that tell classes apart"
    script:
        "scripts/tabulate_attributes.py"


# The open choices of the paper, decided where the truth is known: on the birds.
rule ablate_clam:
    input:
        manifest=[f"<results>/manifests/{dataset}.parquet" for dataset, _ in ABLATED],
        targets=[f"<results>/targets/{dataset}/{model}.parquet" for dataset, model in ABLATED],
        weights=[f"<results>/models/{dataset}/{model}.safetensors" for dataset, model in ABLATED],
        card=[f"<results>/models/{dataset}/{model}.json" for dataset, model in ABLATED],
        library=library("papers/clam/scripts/ablate_clam.py"),
    output:
        table="<results>/computed/clam_ablation.parquet",
    log:
        "<logs>/ablate_clam.log",
    benchmark:
        "<benchmarks>/ablate_clam.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("ablate_clam", reads=True)
    resources:
        mem_mb=memory_of("ablate_clam"),
        runtime=minutes_of("ablate_clam"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        layers=ABLATED_LAYERS,
        settings=settings_on(ABLATED_LAYERS),
        images_per_class=lookup(dpath="clam/ablation_images_per_class", within=config),
        birds=lookup(dpath="clam/ablation_birds", within=config),
        variants=lookup(dpath="clam/ablation", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Ablating the open choices of CLAM on the birds"
    script:
        "scripts/ablate_clam.py"


# What the paper leaves open for LRP itself, on the same birds.
rule ablate_explainers:
    input:
        manifest=[f"<results>/manifests/{dataset}.parquet" for dataset, _ in ABLATED],
        targets=expand(
            "<results>/targets/{dataset}/{model}.parquet", dataset=[pair[0] for pair in ABLATED], model=ABLATED_MODELS
        ),
        weights=expand(
            "<results>/models/{dataset}/{model}.safetensors",
            dataset=[pair[0] for pair in ABLATED],
            model=ABLATED_MODELS,
        ),
        cards=expand(
            "<results>/models/{dataset}/{model}.json", dataset=[pair[0] for pair in ABLATED], model=ABLATED_MODELS
        ),
        library=library("papers/clam/scripts/ablate_explainers.py"),
    output:
        table="<results>/computed/clam_ablation_explainers.parquet",
    log:
        "<logs>/ablate_explainers.log",
    benchmark:
        "<benchmarks>/ablate_explainers.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("ablate_explainers", reads=True)
    resources:
        mem_mb=memory_of("ablate_explainers"),
        runtime=minutes_of("ablate_explainers"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        models=ABLATED_MODELS,
        variants=lookup(dpath="clam/ablation_explainers", within=config),
        birds=lookup(dpath="clam/ablation_birds", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Ablating the open choices of LRP on the birds"
    script:
        "scripts/ablate_explainers.py"
