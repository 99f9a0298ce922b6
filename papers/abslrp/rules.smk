"""
absLRP's own: the toy networks of Figure 1 and the sentences of Figure 9.

Inputs: nothing, or the published sentiment classifier that resources/downloads.csv names.
Outputs: <results>/abslrp/sentiment/, a classifier of sentences in the files of Hugging Face's hub, its training's
history and sentences.npz; tables abslrp_toy and abslrp_sentiment.
"""


include: "common.smk"
include: "examples.smk"
include: "vary.smk"


# Figure 1: the engine on networks of two neurons.
rule explain_toys:
    input:
        library=library("papers/abslrp/scripts/explain_toys.py"),
    output:
        table="<results>/computed/abslrp_toy.parquet",
    log:
        "<logs>/explain_toys.log",
    benchmark:
        "<benchmarks>/explain_toys.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_toys")
    resources:
        mem_mb=memory_of("explain_toys"),
        runtime=minutes_of("explain_toys"),
    message:
        "Toy networks"
    script:
        "scripts/explain_toys.py"


# Figure 9, where no published weights are asked for.
rule train_sentiment:
    input:
        library=library("papers/abslrp/scripts/train_sentiment.py"),
    output:
        weights="<results>/abslrp/sentiment/model.safetensors",
        config="<results>/abslrp/sentiment/config.json",
        vocabulary="<results>/abslrp/sentiment/vocab.txt",
        history="<results>/abslrp/sentiment/history.csv",
    log:
        "<logs>/train_sentiment.log",
    benchmark:
        "<benchmarks>/train_sentiment.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("train_sentiment", reads=True)
    resources:
        mem_mb=memory_of("train_sentiment"),
        runtime=minutes_of("train_sentiment"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        sentences=lookup(dpath="abslrp/sentiment/sentences", within=config),
        network=lookup(dpath="abslrp/sentiment/network", within=config),
        training=lookup(dpath="abslrp/sentiment/training", within=config),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Training a classifier of sentences"
    script:
        "scripts/train_sentiment.py"


rule explain_sentences:
    input:
        weights=sentiment_file("weights"),
        config=sentiment_file("config"),
        vocabulary=sentiment_file("vocabulary"),
        library=library("papers/abslrp/scripts/explain_sentences.py"),
    output:
        table="<results>/computed/abslrp_sentiment.parquet",
        examples="<results>/abslrp/sentiment/sentences.npz",
    log:
        "<logs>/explain_sentences.log",
    benchmark:
        "<benchmarks>/explain_sentences.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_sentences", reads=True)
    resources:
        mem_mb=memory_of("explain_sentences"),
        runtime=minutes_of("explain_sentences"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        sentences=lookup(dpath="abslrp/sentiment/sentences", within=config),
        explained=lookup(dpath="abslrp/sentiment/explained", within=config),
        shown=lookup(dpath="abslrp/sentiment/shown", within=config),
        examples=lookup(dpath="abslrp/sentiment/examples", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Relevance of words"
    script:
        "scripts/explain_sentences.py"
