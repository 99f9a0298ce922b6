"""
Tables: published beside reproduced, claims with their tests, accuracies.

Inputs: scores, targets, the published tables and claims of the run's papers.
Outputs: <results>/tables/{name}.csv, .md, .tex.
"""

for paper_ in PAPERS:

    rule:
        name:
            f"tabulate_{paper_.id}"
        input:
            scores=scores_of(paper_),
            targets=targets_of(paper_),
            paper=os.path.join(paper_.folder, "paper.yaml"),
            published=[os.path.join(paper_.folder, f"table{number}.csv") for number in paper_.tables],
            extensions=extensions_of(paper_),
            library=library_with_rows("workflow/scripts/tabulate.py", extensions_of(paper_)),
        output:
            measured=measured_of(paper_, "csv"),
            measured_md=measured_of(paper_, "md"),
            significance=significance_of(paper_, "csv"),
            significance_md=significance_of(paper_, "md"),
            csv=shown(
                expand(f"<results>/tables/{paper_.id}_table{{number}}.csv", number=paper_.tables),
                caption="../report/table.rst",
                category=paper_.short,
                subcategory="Tables",
            ),
            md=expand(f"<results>/tables/{paper_.id}_table{{number}}.md", number=paper_.tables),
            tex=expand(f"<results>/tables/{paper_.id}_table{{number}}.tex", number=paper_.tables),
        log:
            f"<logs>/tabulate/{paper_.id}.log",
        benchmark:
            f"<benchmarks>/tabulate/{paper_.id}.tsv"
        group:
            "tables"
        conda:
            "../../envs/relmap.yaml"
        threads: threads_of("tabulate")
        resources:
            mem_mb=memory_of("tabulate"),
            runtime=minutes_of("tabulate"),
        params:
            seed=lookup(dpath="seed", within=config),
            resamples=lookup(dpath="evaluation/resamples", within=config),
            confidence=lookup(dpath="evaluation/confidence", within=config),
            missing=missing_of(paper_),
            guests=lookup(dpath="methods", within=config),
            trainings=FURTHER_TRAININGS,
        message:
            f"Tables of {paper_.short}"
        script:
            "../scripts/tabulate.py"


for paper_ in PAPERS:
    if beside(paper_, "claims.yaml"):

        rule:
            name:
                f"decide_{paper_.id}"
            input:
                scores=scores_of(paper_),
                targets=targets_of(paper_),
                claims=beside(paper_, "claims.yaml"),
                paper=os.path.join(paper_.folder, "paper.yaml"),
                published=[os.path.join(paper_.folder, f"table{number}.csv") for number in paper_.tables],
                extensions=extensions_of(paper_),
                library=library_with_rows("workflow/scripts/decide.py", extensions_of(paper_)),
            output:
                csv=shown(
                    f"<results>/tables/{paper_.id}_claims.csv",
                    caption="../report/claims.rst",
                    category=paper_.short,
                    subcategory="Claims",
                ),
                md=f"<results>/tables/{paper_.id}_claims.md",
                comparisons=f"<results>/tables/{paper_.id}_comparisons.csv",
                comparisons_md=f"<results>/tables/{paper_.id}_comparisons.md",
            log:
                f"<logs>/decide/{paper_.id}.log",
            benchmark:
                f"<benchmarks>/decide/{paper_.id}.tsv"
            group:
                "tables"
            conda:
                "../../envs/relmap.yaml"
            threads: threads_of("decide")
            resources:
                mem_mb=memory_of("decide"),
                runtime=minutes_of("decide"),
            params:
                seed=lookup(dpath="seed", within=config),
                significance=lookup(dpath="evaluation/significance", within=config),
                trainings=FURTHER_TRAININGS,
            message:
                f"Which claims of {paper_.short} hold"
            script:
                "../scripts/decide.py"


# What was computed with a network, and has its words already.
for owner_, names_ in {**COMPUTED_TABLES, "engine": ["cost"] if COST_MODELS else []}.items():
    if names_:

        rule:
            name:
                f"lay_out_{owner_}"
            input:
                computed=[f"<results>/computed/{name}.parquet" for name in names_],
                library=library("workflow/scripts/lay_out.py"),
            output:
                csv=shown(
                    [f"<results>/tables/{name}.csv" for name in names_],
                    caption="../report/table.rst" if owner_ != "engine" else "../report/cost.rst",
                    category=next((paper.short for paper in PAPERS if paper.id == owner_), "Engine"),
                ),
                md=[f"<results>/tables/{name}.md" for name in names_],
            log:
                f"<logs>/lay_out/{owner_}.log",
            benchmark:
                f"<benchmarks>/lay_out/{owner_}.tsv"
            group:
                "tables"
            conda:
                "../../envs/relmap.yaml"
            threads: threads_of("lay_out")
            resources:
                mem_mb=memory_of("lay_out"),
                runtime=minutes_of("lay_out"),
            message:
                f"Laying out the computed tables of {owner_}"
            script:
                "../scripts/lay_out.py"


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
    group:
        "tables"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("tabulate_accuracies")
    resources:
        mem_mb=memory_of("tabulate_accuracies"),
        runtime=minutes_of("tabulate_accuracies"),
    message:
        "Accuracies of the classifiers"
    script:
        "../scripts/tabulate_accuracies.py"
