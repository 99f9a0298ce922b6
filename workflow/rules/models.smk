"""
Classifiers and what they predict.

Which rule makes a network follows from its data set (the base; others of one class an image, or several; those that are
classified by networks of another) and, on the base, from where its weights come.

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
        model=alternatives(name for name in trained() if name not in starting()),
    # What much else waits for comes first.
    priority: 30
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("pretrain_classifier", reads=True)
    resources:
        mem_mb=memory_of("pretrain_classifier"),
        runtime=minutes_of("pretrain_classifier"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=training_seed,
        model=model_settings,
        training=recipe("pretrain"),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Training {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/pretrain_classifier.py"


# The name says which repository of the Hub: ORG/NAME, maybe @REVISION. What comes is verified against the Hub's list.
rule retrieve_from_hub:
    output:
        weights="<data_root>/hub_models/{repository}.safetensors",
    log:
        "<logs>/retrieve_from_hub/{repository}.log",
    localrule: True
    conda:
        "../../envs/relmap.yaml"
    params:
        name=lambda w: {hub_file(name): name for name in of_hub()}[f"{w.repository}.safetensors"],
        mirror=lookup(dpath="data_mirror", within=config),
    message:
        "Retrieving {wildcards.repository} from the Hugging Face Hub"
    script:
        "../scripts/retrieve_from_hub.py"


rule convert_weights:
    input:
        published=published_weights,
        # Weights that only lend their convolutions need none of the pictures that they were trained on.
        manifest=lambda w: [f"<results>/manifests/{w.dataset}.parquet"] if shows_classes_of(w.dataset) else [],
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
        model=alternatives(name for name in MODELS if name not in (*trained(), *starting(), *other_forms())),
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("reuse_classifier", reads=True)
    resources:
        mem_mb=memory_of("reuse_classifier"),
        runtime=minutes_of("reuse_classifier"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        model=model_settings,
        multi_label=lambda wildcards: ROWS.datasets[wildcards.dataset].multi_label,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Converting weights of {wildcards.model}: {input.published}"
    script:
        "../scripts/convert_weights.py"


use rule convert_weights as convert_weights_of_several with:
    log:
        "<logs>/convert_weights_of_several/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/convert_weights_of_several/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(labelled_severally()),
        model=alternatives(name for name in starting() if name not in trained()),


# For images of several classes the whole network is trained, from the weights that it, or its like, has on the base.
rule train_multilabel:
    input:
        initial=lender,
        manifest="<results>/manifests/{dataset}.parquet",
        library=model_library("workflow/scripts/train_multilabel.py"),
    output:
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        history="<results>/models/{dataset}/{model}.history.csv",
    log:
        "<logs>/train_multilabel/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/train_multilabel/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(labelled_severally()),
        model=alternatives(name for name in MODELS if name in trained() or name not in (*starting(), *other_forms())),
    # What much else waits for comes first.
    priority: 20
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("train_multilabel", reads=True)
    resources:
        mem_mb=memory_of("train_multilabel"),
        runtime=minutes_of("train_multilabel"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=training_seed,
        model=model_settings,
        training=recipe("multilabel"),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Training {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/train_multilabel.py"


# Nothing is trained: the network of the data set with these classes, or its weights in another architecture.
rule reuse_classifier:
    input:
        lent=lender,
        manifest="<results>/manifests/{dataset}.parquet",
        library=model_library("workflow/scripts/reuse_classifier.py"),
    output:
        weights="<results>/models/{dataset}/{model}.safetensors",
        card="<results>/models/{dataset}/{model}.json",
        history="<results>/models/{dataset}/{model}.history.csv",
    log:
        "<logs>/reuse_classifier/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/reuse_classifier/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(borrowing()),
        model=alternatives(name for name in MODELS if name not in other_forms()),
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("reuse_classifier", reads=True)
    resources:
        mem_mb=memory_of("reuse_classifier"),
        runtime=minutes_of("reuse_classifier"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        model=model_settings,
        fit=fit_of,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Taking {wildcards.model} for {wildcards.dataset}: {input.lent}"
    script:
        "../scripts/reuse_classifier.py"


use rule reuse_classifier as reuse_classifier_of_base with:
    log:
        "<logs>/reuse_classifier_of_base/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/reuse_classifier_of_base/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=re.escape(BASE),
        model=alternatives(starting()),


use rule reuse_classifier as reuse_classifier_in_another_form with:
    log:
        "<logs>/reuse_classifier_in_another_form/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/reuse_classifier_in_another_form/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(DATASETS),
        model=alternatives(other_forms()),


# A network of the base, or one that starts from it, trained on: its fully connected part, last stage, or all of it.
rule finetune_classifier:
    input:
        pretrained=lender,
        manifest="<results>/manifests/{dataset}.parquet",
        library=model_library("workflow/scripts/finetune_classifier.py"),
    output:
        weights=["<results>/models/{dataset}/{model}.safetensors"],
        card=["<results>/models/{dataset}/{model}.json"],
        history=["<results>/models/{dataset}/{model}.history.csv"],
    log:
        "<logs>/finetune_classifier/{dataset}/{model}.log",
    benchmark:
        "<benchmarks>/finetune_classifier/{dataset}/{model}.tsv"
    wildcard_constraints:
        dataset=alternatives(finetuning()),
        model=alternatives(name for name in MODELS if name not in (*other_forms(), *trained_together())),
    # What much else waits for comes first.
    priority: 20
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("finetune_classifier", reads=True)
    resources:
        mem_mb=memory_of("finetune_classifier"),
        runtime=minutes_of("finetune_classifier"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seeds=lambda wildcards: [training_seed(wildcards)],
        views_seed=first_seed,
        model=model_settings,
        training=recipe("finetune"),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Fine-tuning {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/finetune_classifier.py"


# One job for the networks that differ in their seed alone and are trained on features: starting up and looking at the
# pictures takes longer than that.
for dataset_, model_ in product(finetuning(), dict.fromkeys(trained_together().values())):
    networks_ = [name for name, of in trained_together().items() if of == model_]
    place_ = SimpleNamespace(dataset=dataset_, model=networks_[0])

    rule:
        name:
            f"finetune_{dataset_}_{model_}"
        input:
            pretrained=lender(place_),
            manifest=f"<results>/manifests/{dataset_}.parquet",
            library=model_library("workflow/scripts/finetune_classifier.py")(place_),
        output:
            weights=[f"<results>/models/{dataset_}/{name}.safetensors" for name in networks_],
            card=[f"<results>/models/{dataset_}/{name}.json" for name in networks_],
            history=[f"<results>/models/{dataset_}/{name}.history.csv" for name in networks_],
        log:
            f"<logs>/finetune_classifier/{dataset_}/{model_}.log",
        benchmark:
            f"<benchmarks>/finetune_classifier/{dataset_}/{model_}.tsv"
        priority: 20
        conda:
            "../../envs/relmap.yaml"
        threads: threads_of("finetune_classifier", reads=True)
        resources:
            mem_mb=memory_of("finetune_classifier", dataset=dataset_, model=model_),
            runtime=minutes_of("finetune_classifier", dataset=dataset_, model=model_),
            gpu=lookup(dpath="compute/gpus", within=config),
        params:
            seeds=[training_seed(SimpleNamespace(model=name)) for name in networks_],
            views_seed=first_seed(place_),
            model=model_settings(place_),
            training=recipe("finetune")(place_),
            precision=lookup(dpath="compute/precision", within=config),
            device=lookup(dpath="compute/device", within=config),
        message:
            f"Fine-tuning {', '.join(networks_)} on {dataset_}"
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
    threads: threads_of("predict", reads=True)
    resources:
        mem_mb=memory_of("predict"),
        runtime=minutes_of("predict"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        max_images=most_images,
        target=explained,
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Predicting {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/predict.py"
