"""
C3-LRP's own: what ties decide, how often its masks differ, what its propagation is, and what it costs.

Inputs: scores and maps of the networks that its tables are of.
Outputs: tables c3lrp_ties, c3lrp_contour, c3lrp_telescoping and c3lrp_price.
"""


include: "common.smk"


rule compare_ties:
    input:
        scores=c3_files(f"<results>/scores/{{dataset}}/{{model}}/{C3_METRIC}.parquet"),
        stores=ancient(c3_files("<results>/maps/{dataset}/{model}/{method}.zarr", C3_METHODS)),
        hashes=c3_files("<results>/maps/{dataset}/{model}/{method}.json", C3_METHODS),
        library=library("papers/c3lrp/scripts/compare_ties.py"),
    output:
        csv="<results>/tables/c3lrp_ties.csv",
        md="<results>/tables/c3lrp_ties.md",
    log:
        "<logs>/compare_ties.log",
    benchmark:
        "<benchmarks>/compare_ties.tsv"
    group:
        "tables"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("compare_ties")
    resources:
        mem_mb=memory_of("compare_ties"),
        runtime=minutes_of("compare_ties"),
    params:
        methods=C3_METHODS,
    message:
        "What ties decide"
    script:
        "scripts/compare_ties.py"


rule count_masks:
    input:
        stores=ancient(c3_files("<results>/maps/{dataset}/{model}/{method}.zarr", C3_PROPAGATIONS)),
        hashes=c3_files("<results>/maps/{dataset}/{model}/{method}.json", C3_PROPAGATIONS),
        library=library("papers/c3lrp/scripts/count_masks.py"),
    output:
        contour="<results>/tables/c3lrp_contour.csv",
        contour_md="<results>/tables/c3lrp_contour.md",
        telescoping="<results>/tables/c3lrp_telescoping.csv",
        telescoping_md="<results>/tables/c3lrp_telescoping.md",
    log:
        "<logs>/count_masks.log",
    benchmark:
        "<benchmarks>/count_masks.tsv"
    group:
        "tables"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("count_masks")
    resources:
        mem_mb=memory_of("count_masks"),
        runtime=minutes_of("count_masks"),
    params:
        networks=C3_NETWORKS,
        methods=C3_PROPAGATIONS,
    message:
        "How often the masks of C3-LRP differ, and what its propagation is"
    script:
        "scripts/count_masks.py"


rule measure_price:
    input:
        library=library("papers/c3lrp/scripts/measure_price.py", *makers(["c3_lrp_contour", "input_x_gradient"])),
    output:
        table="<results>/computed/c3lrp_price.parquet",
    log:
        "<logs>/measure_price.log",
    benchmark:
        "<benchmarks>/measure_price.tsv"
    conda:
        "../../envs/relmap.yaml"
    # Its seconds are not to wait for others.
    threads: workflow.cores
    resources:
        mem_mb=memory_of("measure_price"),
        runtime=minutes_of("measure_price"),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        architecture=C3_MODEL,
        methods=["input_x_gradient", "c3_lrp", "c3_lrp_contour"],
        settings=lookup(dpath="c3lrp/price", within=config),
        device=lookup(dpath="compute/device", within=config),
    message:
        "What a map of C3-LRP costs"
    script:
        "scripts/measure_price.py"
