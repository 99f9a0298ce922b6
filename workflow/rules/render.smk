"""
Figures through papermill, and the report.

A notebook is an input of its rule, so that an edit of it remakes its figures, and opens without Snakemake too. Notebooks
read tables, scores and maps; none imports torch.

Inputs: everything before. Outputs: <results>/figures, <results>/notebooks, <results>/index.html.
"""


rule render_clam_comparison:
    input:
        notebook=here("notebooks/clam/comparison.ipynb"),
        library=library("notebooks/clam/comparison.ipynb"),
        manifests=expand("<results>/manifests/{dataset}.parquet", dataset=DATASETS),
        targets=pairs("<results>/targets/{dataset}/{model}.parquet"),
        pointing=scores("pointing"),
    output:
        notebook="<results>/notebooks/clam/comparison.ipynb",
        png=figure_files("clam_comparison"),
        pdf=beside("clam_comparison", "pdf"),
        words=beside("clam_comparison", "json"),
    log:
        "<logs>/render_clam_comparison.log",
    benchmark:
        "<benchmarks>/render_clam_comparison.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=subpath(output.notebook, ancestor=3),
    message:
        "Figures 3 and 7 to 13"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"


rule render_clam_curves:
    input:
        notebook=here("notebooks/clam/curves.ipynb"),
        library=library("notebooks/clam/curves.ipynb"),
        pointing=scores("pointing"),
        histories=pairs("<results>/models/{dataset}/{model}.history.csv"),
    output:
        notebook="<results>/notebooks/clam/curves.ipynb",
        png=figure_files("clam_curves"),
        pdf=beside("clam_curves", "pdf"),
        words=beside("clam_curves", "json"),
        training=expand("<results>/figures/training_curves.{suffix}", suffix=["png", "pdf", "json"]),
    log:
        "<logs>/render_clam_curves.log",
    benchmark:
        "<benchmarks>/render_clam_curves.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=subpath(output.notebook, ancestor=3),
        draws=lookup(dpath="evaluation/resamples", within=config),
        seed=lookup(dpath="seed", within=config),
    message:
        "Figures 5 and 6, and how the classifiers learned"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " -p draws {params.draws} -p seed {params.seed} > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"


rule render_clam_layers:
    input:
        notebook=here("notebooks/clam/layers.ipynb"),
        library=library("notebooks/clam/layers.ipynb"),
        manifest="<results>/manifests/cub200_2011.parquet",
        targets="<results>/targets/cub200_2011/vgg16.parquet",
        pointing="<results>/scores/cub200_2011/vgg16/pointing.parquet",
        examples="<results>/clam/cub200_2011/vgg16/clam/examples.npz",
    output:
        notebook="<results>/notebooks/clam/layers.ipynb",
        png=figure_files("clam_layers"),
        pdf=beside("clam_layers", "pdf"),
        words=beside("clam_layers", "json"),
    log:
        "<logs>/render_clam_layers.log",
    benchmark:
        "<benchmarks>/render_clam_layers.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=subpath(output.notebook, ancestor=3),
        related=lookup(dpath="clam/related/images", within=config),
    message:
        "Figures 4 and 14 to 18"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " -p related {params.related} > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"


# What was asked for.
rule write_config:
    input:
        library=library("workflow/scripts/write_config.py"),
    output:
        config="<results>/config.yaml",
    log:
        "<logs>/write_config.log",
    localrule: True
    conda:
        "../../envs/relmap.yaml"
    params:
        config=config,
    message:
        "Writing the merged config"
    script:
        "../scripts/write_config.py"


# What ran, on what, for how long: read from the jobs' benchmarks, so after all of them.
rule record_provenance:
    input:
        config="<results>/config.yaml",
        tables=[*CLAM_TABLES, *ENGINE_TABLES],
        accuracies="<results>/tables/accuracies.csv",
        figures=[*CLAM_FIGURES, *ENGINE_FIGURES],
    output:
        provenance="<results>/provenance.json",
    log:
        "<logs>/record_provenance.log",
    localrule: True
    conda:
        "../../envs/relmap.yaml"
    params:
        results=subpath(output.provenance, parent=True),
        repository=workflow.basedir,
    message:
        "Recording provenance"
    script:
        "../scripts/record_provenance.py"


rule write_report:
    input:
        config="<results>/config.yaml",
        provenance="<results>/provenance.json",
        tables=[*CLAM_TABLES, *ENGINE_TABLES],
        accuracies="<results>/tables/accuracies.csv",
        figures=[*CLAM_FIGURES, *ENGINE_FIGURES],
        library=library("workflow/scripts/write_report.py"),
    output:
        index=report("<results>/index.html", caption="../report/index.rst", category="Report"),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        results=subpath(output.index, parent=True),
    message:
        "Writing the report's first page"
    script:
        "../scripts/write_report.py"
