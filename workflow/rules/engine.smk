"""
The engine: every method of the catalogue on the same images; its maps, where its relevance leaks, what it costs.

Inputs: manifests, targets, classifiers.
Outputs: <results>/comparisons/{dataset}/{model}.npz, <results>/computed/{conservation,cost}.parquet,
<results>/tables/{conservation,conservation_summary,cost}.csv,
<results>/figures/gallery_{dataset}_{model}.png, .pdf.
"""


# One job for all networks: importing torch takes as long as a network's comparison, and the table holds all of them.
rule compare_methods:
    input:
        manifests=[f"<results>/manifests/{dataset}.parquet" for dataset, _ in ENGINE_PAIRS],
        weights=engine_pairs("<results>/models/{dataset}/{model}.safetensors"),
        cards=engine_pairs("<results>/models/{dataset}/{model}.json"),
        targets=engine_pairs("<results>/targets/{dataset}/{model}.parquet"),
        library=library("workflow/scripts/compare_methods.py", *makers(ENGINE_METHODS)),
    output:
        maps=engine_pairs("<results>/comparisons/{dataset}/{model}.npz"),
        steps="<results>/computed/conservation.parquet",
    log:
        "<logs>/compare_methods.log",
    benchmark:
        "<benchmarks>/compare_methods.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("compare_methods", reads=True)
    resources:
        mem_mb=memory_of("compare_methods", **ENGINE_PLACE),
        runtime=minutes_of("compare_methods", **ENGINE_PLACE),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        pairs=ENGINE_PAIRS,
        methods=lookup(dpath="engine/methods", within=config),
        explainers=lookup(dpath="explainers", within=config),
        images=lookup(dpath="engine/images", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "Every method on the same images"
    script:
        "../scripts/compare_methods.py"


# Apart from what asks the network, so that tables can be made again without it.
rule tabulate_leaks:
    input:
        steps="<results>/computed/conservation.parquet",
        library=library("workflow/scripts/tabulate_leaks.py"),
    output:
        steps="<results>/tables/conservation.csv",
        summary="<results>/tables/conservation_summary.csv",
    log:
        "<logs>/tabulate_leaks.log",
    benchmark:
        "<benchmarks>/tabulate_leaks.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("tabulate"),
        runtime=minutes_of("tabulate"),
    params:
        precision="%.6g",
    message:
        "Where every method's relevance leaks"
    script:
        "../scripts/tabulate_leaks.py"


# It takes all cores and computes on one: what runs beside it would be in its seconds.
rule measure_cost:
    input:
        manifest=[f"<results>/manifests/{dataset}.parquet" for dataset, _ in ENGINE_PAIRS[:1]],
        weights=[f"<results>/models/{ENGINE_PAIRS[0][0]}/{model}.safetensors" for model in COST_MODELS],
        cards=[f"<results>/models/{ENGINE_PAIRS[0][0]}/{model}.json" for model in COST_MODELS],
        library=library("workflow/scripts/measure_cost.py", *makers(COST_METHODS)),
    output:
        table="<results>/computed/cost.parquet",
    log:
        "<logs>/measure_cost.log",
    benchmark:
        "<benchmarks>/measure_cost.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1024  # as many as there are
    resources:
        mem_mb=memory_of("measure_cost", **ENGINE_PLACE),
        runtime=minutes_of("measure_cost", **ENGINE_PLACE),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        models=COST_MODELS,
        methods=COST_METHODS,
        explainers=lookup(dpath="explainers", within=config),
        images=lookup(dpath="engine/cost/images", within=config),
        repetitions=lookup(dpath="engine/cost/repetitions", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "What every method costs"
    script:
        "../scripts/measure_cost.py"


rule render_gallery:
    input:
        notebook=here("notebooks/engine/gallery.ipynb"),
        library=library("notebooks/engine/gallery.ipynb"),
        maps=engine_pairs("<results>/comparisons/{dataset}/{model}.npz"),
        manifests=sorted({f"<results>/manifests/{dataset}.parquet" for dataset, _ in ENGINE_PAIRS}),
        cards=engine_pairs("<results>/models/{dataset}/{model}.json"),
        targets=engine_pairs("<results>/targets/{dataset}/{model}.parquet"),
    output:
        notebook="<results>/notebooks/engine/gallery.ipynb",
        png=report(
            engine_pairs("<results>/figures/gallery_{dataset}_{model}.png"),
            caption="../report/gallery.rst",
            category="Engine",
        ),
        pdf=engine_pairs("<results>/figures/gallery_{dataset}_{model}.pdf"),
        words=engine_pairs("<results>/figures/gallery_{dataset}_{model}.json"),
    log:
        "<logs>/render_gallery.log",
    benchmark:
        "<benchmarks>/render_gallery.tsv"
    group:
        "figures"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("render_gallery")
    resources:
        mem_mb=memory_of("render_gallery"),
        runtime=minutes_of("render_gallery"),
    params:
        results=subpath(output.notebook, ancestor=3),
    message:
        "One image under every method"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"


# Beside the classifiers' accuracies: how they learned.
rule render_training:
    input:
        notebook=here("notebooks/engine/training.ipynb"),
        library=library("notebooks/engine/training.ipynb"),
        histories=pairs("<results>/models/{dataset}/{model}.history.csv"),
    output:
        notebook="<results>/notebooks/engine/training.ipynb",
        png=report("<results>/figures/training_curves.png", caption="../report/training.rst", category="Classifiers"),
        pdf="<results>/figures/training_curves.pdf",
        words="<results>/figures/training_curves.json",
    log:
        "<logs>/render_training.log",
    benchmark:
        "<benchmarks>/render_training.tsv"
    group:
        "figures"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("render_training")
    resources:
        mem_mb=memory_of("render_training"),
        runtime=minutes_of("render_training"),
    params:
        results=subpath(output.notebook, ancestor=3),
    message:
        "How the classifiers learned"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"
