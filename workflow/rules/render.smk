"""
Figures through papermill, the gallery's small maps, and the report.

A notebook is an input of its rule, so that an edit of it remakes its figures, and opens without Snakemake too. Notebooks
read tables, scores and maps; none imports torch.

Inputs: everything before. Outputs: <results>/figures, <results>/notebooks, <results>/gallery, <results>/index.html.
"""

for paper_ in PAPERS:
    for notebook_ in notebooks_of(paper_):

        rule:
            name:
                f"draw_{paper_.id}_{notebook_}"
            input:
                notebook=notebook_file(paper_, notebook_),
                library=library(os.path.abspath(notebook_file(paper_, notebook_))),
                reads=read_by(paper_, notebook_),
            output:
                notebook=f"<results>/notebooks/{paper_.id}/{notebook_}.ipynb",
                png=shown(
                    figures_of(paper_, "png", notebook_),
                    caption="../report/figure.rst",
                    category=paper_.short,
                    subcategory="Figures",
                ),
                pdf=figures_of(paper_, "pdf", notebook_),
                words=figures_of(paper_, "json", notebook_),
            log:
                f"<logs>/draw/{paper_.id}/{notebook_}.log",
            benchmark:
                f"<benchmarks>/draw/{paper_.id}/{notebook_}.tsv"
            group:
                "figures"
            conda:
                "../../envs/relmap.yaml"
            threads: threads_of("draw")
            resources:
                mem_mb=memory_of("draw"),
                runtime=minutes_of("draw"),
            params:
                results=subpath(output.notebook, ancestor=3),
                given=notebook_parameters(paper_, notebook_),
            message:
                f"Figures of {paper_.short}: {notebook_}"
            shell:
                "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar"
                " -p results {params.results} {params.given}"
                " > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"


if GALLERY:

    # One job for all: importing what reads the stores takes longer than the maps of a network.
    rule pack_gallery:
        input:
            manifests=gallery_places("<results>/manifests/{dataset}.parquet"),
            targets=gallery_places("<results>/targets/{dataset}/{model}.parquet"),
            cards=gallery_places("<results>/models/{dataset}/{model}.json"),
            stores=ancient(gallery_stores(".zarr")),
            hashes=gallery_stores(".json"),
            library=library("workflow/scripts/pack_gallery.py"),
        output:
            folder=directory("<results>/gallery"),
        log:
            "<logs>/pack_gallery.log",
        benchmark:
            "<benchmarks>/pack_gallery.tsv"
        conda:
            "../../envs/relmap.yaml"
        threads: threads_of("pack_gallery")
        resources:
            mem_mb=memory_of("pack_gallery"),
            runtime=minutes_of("pack_gallery"),
        params:
            results=subpath(output.folder, parent=True),
            places=GALLERY_PLACES,
            unsigned=[row.id for row in ROWS.methods.values() if not row.signed],
            seed=lookup(dpath="seed", within=config),
        message:
            "Small maps for the report's gallery"
        script:
            "../scripts/pack_gallery.py"


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
        tables=TABLES,
        accuracies=ACCURACIES,
        figures=FIGURES,
        gallery=GALLERY,
    output:
        provenance="<results>/provenance.json",
    log:
        "<logs>/record_provenance.log",
    localrule: True
    conda:
        "../../envs/relmap.yaml"
    params:
        results=subpath(output.provenance, parent=True),
        repository=here("."),
    message:
        "Recording provenance"
    script:
        "../scripts/record_provenance.py"


rule write_report:
    input:
        config="<results>/config.yaml",
        provenance="<results>/provenance.json",
        tables=TABLES,
        accuracies=ACCURACIES,
        figures=FIGURES,
        gallery=GALLERY,
        papers=files_of_papers(),
        extensions=EXTENSIONS,
        page=PAGE,
        library=library_with_rows(
            "workflow/scripts/write_report.py",
            [*EXTENSIONS, *(path for path in files_of_papers() if path.endswith("rows.py"))],
        ),
    output:
        index=report("<results>/index.html", caption="../report/index.rst", category="Report"),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("write_report")
    resources:
        mem_mb=memory_of("write_report"),
        runtime=minutes_of("write_report"),
    params:
        results=subpath(output.index, parent=True),
        papers=[str(paper.folder) for paper in PAPERS],
    message:
        "Writing the report's first page"
    script:
        "../scripts/write_report.py"
