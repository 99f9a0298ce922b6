"""
Tables: published beside reproduced, claims with their tests, controls, accuracies.

Inputs: scores, targets, the published tables and claims of papers/.
Outputs: <results>/tables/{name}.csv, .md, .tex.
"""


rule tabulate:
    input:
        pointing=scores("pointing"),
        lerf=scores("lerf"),
        segmentation=scores("segmentation"),
        paper=here("papers/clam/paper.yaml"),
        published=[here(f"papers/clam/table{number}.csv") for number in (1, 2, 3, 4)],
        library=library("workflow/scripts/tabulate.py"),
    output:
        csv=report(
            expand("<results>/tables/clam_table{number}.csv", number=[1, 2, 3, 4]),
            caption="../report/table.rst",
            category="CLAM",
            subcategory="Tables",
        ),
        md=expand("<results>/tables/clam_table{number}.md", number=[1, 2, 3, 4]),
        tex=expand("<results>/tables/clam_table{number}.tex", number=[1, 2, 3, 4]),
    log:
        "<logs>/tabulate.log",
    benchmark:
        "<benchmarks>/tabulate.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        seed=lookup(dpath="seed", within=config),
        resamples=lookup(dpath="evaluation/resamples", within=config),
        confidence=lookup(dpath="evaluation/confidence", within=config),
    message:
        "Tables 1 to 4"
    script:
        "../scripts/tabulate.py"


rule decide_claims:
    input:
        pointing=scores("pointing"),
        lerf=scores("lerf"),
        segmentation=scores("segmentation"),
        claims=here("papers/clam/claims.yaml"),
        paper=here("papers/clam/paper.yaml"),
        published=[here(f"papers/clam/table{number}.csv") for number in (1, 2, 3, 4)],
        library=library("workflow/scripts/decide_claims.py"),
    output:
        csv=report(
            "<results>/tables/clam_claims.csv",
            caption="../report/claims.rst",
            category="CLAM",
            subcategory="Claims",
        ),
        md="<results>/tables/clam_claims.md",
        comparisons="<results>/tables/clam_comparisons.csv",
        comparisons_md="<results>/tables/clam_comparisons.md",
    log:
        "<logs>/decide_claims.log",
    benchmark:
        "<benchmarks>/decide_claims.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        seed=lookup(dpath="seed", within=config),
        significance=lookup(dpath="evaluation/significance", within=config),
    message:
        "Which of the paper's claims hold"
    script:
        "../scripts/decide_claims.py"


rule tabulate_controls:
    input:
        pointing=scores("pointing"),
        lerf=scores("lerf"),
        segmentation=scores("segmentation"),
        library=library("papers/clam/scripts/tabulate_controls.py"),
    output:
        csv="<results>/tables/clam_controls.csv",
        md="<results>/tables/clam_controls.md",
    log:
        "<logs>/tabulate_controls.log",
    benchmark:
        "<benchmarks>/tabulate_controls.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        seed=lookup(dpath="seed", within=config),
        resamples=lookup(dpath="evaluation/resamples", within=config),
        confidence=lookup(dpath="evaluation/confidence", within=config),
    message:
        "CLAM against its untrained control"
    script:
        "../../papers/clam/scripts/tabulate_controls.py"


rule tabulate_attributes:
    input:
        attributes=scores("attributes"),
        library=library("papers/clam/scripts/tabulate_attributes.py"),
    output:
        csv="<results>/tables/clam_attributes.csv",
        md="<results>/tables/clam_attributes.md",
    log:
        "<logs>/tabulate_attributes.log",
    benchmark:
        "<benchmarks>/tabulate_attributes.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        seed=lookup(dpath="seed", within=config),
        resamples=lookup(dpath="evaluation/resamples", within=config),
        confidence=lookup(dpath="evaluation/confidence", within=config),
    message:
        "Whether attributes look at the parts that tell classes apart"
    script:
        "../../papers/clam/scripts/tabulate_attributes.py"


rule tabulate_accuracies:
    input:
        cards=pairs("<results>/models/{dataset}/{model}.json"),
        targets=pairs("<results>/targets/{dataset}/{model}.parquet"),
        library=library("workflow/scripts/tabulate_accuracies.py"),
    output:
        csv=report(
            "<results>/tables/accuracies.csv",
            caption="../report/accuracies.rst",
            category="Classifiers",
        ),
        md="<results>/tables/accuracies.md",
    log:
        "<logs>/tabulate_accuracies.log",
    benchmark:
        "<benchmarks>/tabulate_accuracies.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    message:
        "Accuracies of the classifiers"
    script:
        "../scripts/tabulate_accuracies.py"
