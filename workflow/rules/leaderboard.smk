"""
The leaderboard: all methods of a run by all numbers on all data sets and networks; how far the numbers can be trusted.

Inputs: all scores of the run.
Outputs: <results>/tables/{leaderboard,leaderboard_ranks,leaderboard_agreement,metric_trust}.csv, .md,
<results>/figures/leaderboard_{ranks,agreement}.png, .pdf; of rendered birds <results>/siblings/{dataset}/{model}.npz and
<results>/figures/minimal_pairs_{numbers,<dataset>_<model>}.png, .pdf.
"""


rule rank_methods:
    input:
        scores=LEADERBOARD_SCORES,
        extensions=EXTENSIONS,
        library=library("workflow/scripts/rank_methods.py"),
    output:
        standings=report(
            "<results>/tables/leaderboard.csv", caption="../report/leaderboard.rst", category="Leaderboard"
        ),
        standings_md="<results>/tables/leaderboard.md",
        ranks=report(
            "<results>/tables/leaderboard_ranks.csv", caption="../report/leaderboard.rst", category="Leaderboard"
        ),
        ranks_md="<results>/tables/leaderboard_ranks.md",
        agreement=report(
            "<results>/tables/leaderboard_agreement.csv", caption="../report/leaderboard.rst", category="Leaderboard"
        ),
        agreement_md="<results>/tables/leaderboard_agreement.md",
        trust=report("<results>/tables/metric_trust.csv", caption="../report/trust.rst", category="Leaderboard"),
        trust_md="<results>/tables/metric_trust.md",
    log:
        "<logs>/rank_methods.log",
    benchmark:
        "<benchmarks>/rank_methods.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("rank_methods")
    resources:
        mem_mb=memory_of("rank_methods"),
        runtime=minutes_of("rank_methods"),
    params:
        seed=lookup(dpath="seed", within=config),
        resamples=lookup(dpath="evaluation/resamples", within=config),
        confidence=lookup(dpath="evaluation/confidence", within=config),
        significance=lookup(dpath="evaluation/significance", within=config),
        # Of a method that is trained several times the first alone counts, as of a network.
        left_out=[row["id"] for row in FURTHER_TRAININGS],
    message:
        "Ranking all methods by all numbers"
    script:
        "../scripts/rank_methods.py"


rule render_leaderboard:
    input:
        notebook=here("notebooks/engine/leaderboard.ipynb"),
        library=library("notebooks/engine/leaderboard.ipynb"),
        standings="<results>/tables/leaderboard.csv",
        ranks="<results>/tables/leaderboard_ranks.csv",
        agreement="<results>/tables/leaderboard_agreement.csv",
    output:
        notebook="<results>/notebooks/engine/leaderboard.ipynb",
        png=report(
            [f"<results>/figures/{name}.png" for name in LEADERBOARD_NAMES],
            caption="../report/leaderboard.rst",
            category="Leaderboard",
        ),
        pdf=[f"<results>/figures/{name}.pdf" for name in LEADERBOARD_NAMES],
        words=[f"<results>/figures/{name}.json" for name in LEADERBOARD_NAMES],
    log:
        "<logs>/render_leaderboard.log",
    benchmark:
        "<benchmarks>/render_leaderboard.tsv"
    group:
        "figures"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("render_leaderboard")
    resources:
        mem_mb=memory_of("render_leaderboard"),
        runtime=minutes_of("render_leaderboard"),
    params:
        results=subpath(output.notebook, ancestor=3),
    message:
        "The leaderboard's figures"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"


# Birds whose class hangs on one part: do maps follow it?
rule compare_siblings:
    input:
        manifests=sibling_pairs("<results>/manifests/{dataset}.parquet"),
        weights=sibling_pairs("<results>/models/{dataset}/{model}.safetensors"),
        cards=sibling_pairs("<results>/models/{dataset}/{model}.json"),
        targets=sibling_pairs("<results>/targets/{dataset}/{model}.parquet"),
        library=library("workflow/scripts/compare_siblings.py", *makers(config["engine"]["siblings"]["methods"])),
    output:
        siblings=sibling_pairs("<results>/siblings/{dataset}/{model}.npz"),
    log:
        "<logs>/compare_siblings.log",
    benchmark:
        "<benchmarks>/compare_siblings.tsv"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("compare_siblings", reads=True)
    resources:
        mem_mb=memory_of("compare_siblings", **ENGINE_PLACE),
        runtime=minutes_of("compare_siblings", **ENGINE_PLACE),
        gpu=lookup(dpath="compute/gpus", within=config),
    params:
        methods=lookup(dpath="engine/siblings/methods", within=config),
        explainers=lookup(dpath="explainers", within=config),
        pictures=lookup(dpath="engine/siblings/pictures", within=config),
        images=lookup(dpath="engine/siblings/images", within=config),
        device=lookup(dpath="compute/device", within=config),
        batch_size=lookup(dpath="compute/batch_size", within=config),
    message:
        "Birds beside their siblings"
    script:
        "../scripts/compare_siblings.py"


rule render_minimal_pairs:
    input:
        notebook=here("notebooks/engine/minimal_pairs.ipynb"),
        library=library("notebooks/engine/minimal_pairs.ipynb"),
        siblings=sibling_pairs("<results>/siblings/{dataset}/{model}.npz"),
        manifests=sorted(set(sibling_pairs("<results>/manifests/{dataset}.parquet"))),
        standings="<results>/tables/leaderboard.csv",
        ranks="<results>/tables/leaderboard_ranks.csv",
    output:
        notebook="<results>/notebooks/engine/minimal_pairs.ipynb",
        png=report(
            [f"<results>/figures/{name}.png" for name in SIBLING_NAMES],
            caption="../report/minimal_pairs.rst",
            category="Leaderboard",
        ),
        pdf=[f"<results>/figures/{name}.pdf" for name in SIBLING_NAMES],
        words=[f"<results>/figures/{name}.json" for name in SIBLING_NAMES],
    log:
        "<logs>/render_minimal_pairs.log",
    benchmark:
        "<benchmarks>/render_minimal_pairs.tsv"
    group:
        "figures"
    conda:
        "../../envs/relmap.yaml"
    threads: threads_of("render_minimal_pairs")
    resources:
        mem_mb=memory_of("render_minimal_pairs"),
        runtime=minutes_of("render_minimal_pairs"),
    params:
        results=subpath(output.notebook, ancestor=3),
    message:
        "Minimal pairs"
    shell:
        "python -m papermill {input.notebook} {output.notebook} -k python3 --no-progress-bar -p results {params.results}"
        " > {log} 2>&1 || {{ tail -n 40 {log} >&2; exit 1; }}"
