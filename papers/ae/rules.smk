"""
AE's own: grids of images for GridPG, and the examples of Figures 3, 6 and 11.

Inputs: manifest, targets, classifier.
Outputs: the data set <results>/data/imagenet_grids and its card; below <results>/ae/imagenet/{model}/ the pictures and
maps channels.npz, watermark.npz, edges.npz, scattered.npz; thresholded.parquet of the grids; tables ae_watermark,
ae_edges and ae_scattered.
"""


include: "common.smk"


# A data set that is made of another: images that all models are sure of, so it waits for them.
rule compose_grids:
    input:
        manifest=f"<results>/manifests/{GRID_BASE}.parquet",
        weights=of_base("models", "safetensors", GRID_JUDGES),
        cards=of_base("models", "json", GRID_JUDGES),
        library=library("papers/ae/scripts/compose_grids.py"),
    output:
        root=directory(f"<results>/data/{GRIDS}"),
        card=f"<results>/data/{GRIDS}.json",
    log:
        "<logs>/compose_grids.log",
    benchmark:
        "<benchmarks>/compose_grids.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("compose_grids", reads=True)
    resources:
        mem_mb=memory_of("compose_grids", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        runtime=minutes_of("compose_grids", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        grids={**config["ae"]["grids"], "models": GRID_JUDGES},
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Composing grids of images for GridPG"
    script:
        "scripts/compose_grids.py"


# Figure 3: channels of inner layers by the terms of Eq. 13.
rule capture_channels:
    input:
        manifest=f"<results>/manifests/{GRID_BASE}.parquet",
        targets=of_base("targets", "parquet", [EXAMPLE_MODEL]),
        weights=of_base("models", "safetensors", [EXAMPLE_MODEL]),
        card=of_base("models", "json", [EXAMPLE_MODEL]),
        library=library("papers/ae/scripts/capture_channels.py"),
    output:
        channels=f"<results>/ae/{GRID_BASE}/{EXAMPLE_MODEL}/channels.npz",
    log:
        "<logs>/capture_channels.log",
    benchmark:
        "<benchmarks>/capture_channels.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("capture_channels", reads=True)
    resources:
        mem_mb=memory_of("capture_channels", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        runtime=minutes_of("capture_channels", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        settings=lookup(dpath="ae/channels", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Channel attributions of inner layers"
    script:
        "scripts/capture_channels.py"


# Figure 6, left: a network that has learned a mark, and one that has not.
rule explain_watermark:
    input:
        manifest=f"<results>/manifests/{GRID_BASE}.parquet",
        targets=of_base("targets", "parquet", [EXAMPLE_MODEL]),
        weights=of_base("models", "safetensors", [EXAMPLE_MODEL]),
        card=of_base("models", "json", [EXAMPLE_MODEL]),
        library=library("papers/ae/scripts/explain_watermark.py"),
    output:
        table="<results>/computed/ae_watermark.parquet",
        examples=f"<results>/ae/{GRID_BASE}/{EXAMPLE_MODEL}/watermark.npz",
    log:
        "<logs>/explain_watermark.log",
    benchmark:
        "<benchmarks>/explain_watermark.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_watermark", reads=True)
    resources:
        mem_mb=memory_of("explain_watermark", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        runtime=minutes_of("explain_watermark", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=lookup(dpath="ae/watermark", within=config),
        precision=lookup(dpath="compute/precision", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "A mark that goes with one class, learned and explained"
    script:
        "scripts/explain_watermark.py"


# Figure 6, right.
rule explain_edges:
    input:
        manifest=f"<results>/manifests/{GRID_BASE}.parquet",
        targets=of_base("targets", "parquet", [EXAMPLE_MODEL]),
        weights=of_base("models", "safetensors", [EXAMPLE_MODEL]),
        card=of_base("models", "json", [EXAMPLE_MODEL]),
        library=library("papers/ae/scripts/explain_edges.py"),
    output:
        table="<results>/computed/ae_edges.parquet",
        examples=f"<results>/ae/{GRID_BASE}/{EXAMPLE_MODEL}/edges.npz",
    log:
        "<logs>/explain_edges.log",
    benchmark:
        "<benchmarks>/explain_edges.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("explain_edges", reads=True)
    resources:
        mem_mb=memory_of("explain_edges", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        runtime=minutes_of("explain_edges", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=lookup(dpath="ae/edges", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Objects before strong edges, explained"
    script:
        "scripts/explain_edges.py"


# Figure 11.
rule remove_scattered:
    input:
        manifest=f"<results>/manifests/{GRID_BASE}.parquet",
        targets=of_base("targets", "parquet", [EXAMPLE_MODEL]),
        weights=of_base("models", "safetensors", [EXAMPLE_MODEL]),
        card=of_base("models", "json", [EXAMPLE_MODEL]),
        library=library("papers/ae/scripts/remove_scattered.py"),
    output:
        table="<results>/computed/ae_scattered.parquet",
        examples=f"<results>/ae/{GRID_BASE}/{EXAMPLE_MODEL}/scattered.npz",
    log:
        "<logs>/remove_scattered.log",
    benchmark:
        "<benchmarks>/remove_scattered.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("remove_scattered", reads=True)
    resources:
        mem_mb=memory_of("remove_scattered", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        runtime=minutes_of("remove_scattered", dataset=GRID_BASE, model=EXAMPLE_MODEL),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        seed=lookup(dpath="seed", within=config),
        settings=lookup(dpath="ae/scattered", within=config),
        blur=lookup(dpath="evaluation/insertion", within=config),
        ties=lookup(dpath="evaluation/ties", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "What removing scattered pixels does to predictions"
    script:
        "scripts/remove_scattered.py"


# Figure 9: the stored maps, thresholded to AE's positive ratio.
rule threshold_grids:
    input:
        manifest=f"<results>/manifests/{GRIDS}.parquet",
        card=f"<results>/models/{GRIDS}/{GRID_MODEL}.json",
        stores=ancient(grid_maps("zarr")),
        hashes=grid_maps("json"),
        library=library("papers/ae/scripts/threshold_grids.py"),
    output:
        scores=f"<results>/ae/{GRIDS}/{GRID_MODEL}/thresholded.parquet",
    log:
        "<logs>/threshold_grids.log",
    benchmark:
        "<benchmarks>/threshold_grids.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("threshold_grids")
    resources:
        mem_mb=memory_of("threshold_grids"),
        runtime=minutes_of("threshold_grids"),
    params:
        ties=lookup(dpath="evaluation/ties", within=config),
    message:
        "GridPG at AE's positive ratio"
    script:
        "scripts/threshold_grids.py"
