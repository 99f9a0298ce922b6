# relmap: relevance maps of image classifiers, and the evidence about them.
#
# Everything that a run makes lies in results/<run>/, and is named by this grammar:
#
#   data/{dataset}/                                       pictures and annotations in their true on-disk format
#   data/{dataset}.json                                   card of the data set, written last
#   manifests/{dataset}.parquet                           one row per image
#   models/{dataset}/{model}.safetensors .json .history.csv
#   targets/{dataset}/{model}.parquet                     what is explained: a row per pair of image and target
#   {paper}/{dataset}/{model}/...                         what a paper's own rules train or keep, see its rules.smk
#   maps/{dataset}/{model}/{method}.zarr .json            maps of one method; the JSON carries their content hash
#   comparisons/{dataset}/{model}.npz                     one image's map by every method of the catalogue
#   scores/{dataset}/{model}/{metric}.parquet             tidy rows per pair of image and target, method and level
#   computed/{name}.parquet                               tables that were computed with a network, before their layout
#   tables/{name}.csv .md .tex                            published and reproduced
#   gallery/index.json, {dataset}/{model}/{k}.png .jpg    a few images under every method, small, for the report
#   figures/{name}.png .pdf, notebooks/{paper}/{name}.ipynb    executed notebooks and what they drew
#   pictures/{dataset}/{hash}.png                         what notebooks showed of the data, kept to be drawn without them
#   index.html, config.yaml, provenance.json              the report, the merged config, what ran where
#   logs/{rule}/{wildcards}.log, benchmarks/{rule}/{wildcards}.tsv
#
# Rules, their scripts and their logs share one name, verb_noun; where a rule is written once and made for each pair or
# paper, its name goes on with theirs. What a script imports, and what the rows that it works on name, are inputs of its
# rule, so that a change of mathematics remakes what it made.
from snakemake.utils import min_version

min_version("9.20")


configfile: f"{workflow.basedir}/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


pathvars:
    results=f"results/{config['run']}",
    logs=f"results/{config['run']}/logs",
    benchmarks=f"results/{config['run']}/benchmarks",
    data_root=config["data_root"],


wildcard_constraints:
    dataset=alternatives(DATASETS),
    model=alternatives(MODELS),


onstart:
    claim_folder()
    let_scheduler_rest()


include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"


# What no other paper does: each paper's own rules. They come first, for they say what artifacts its methods need.
for paper in PAPERS:
    for path in beside(paper, "rules.smk"):

        include: os.path.abspath(path)


# What the report waits for.
TABLES = [*(path for paper in PAPERS for path in tables_of(paper)), *ENGINE_TABLES, *LEADERBOARD_TABLES]
FIGURES = [
    *(path for paper in PAPERS for suffix in ("png", "pdf") for path in figures_of(paper, suffix)),
    *ENGINE_FIGURES,
    *LEADERBOARD_FIGURES,
    *(path for files in TRAINING_FIGURE.values() for path in files),
]


include: "workflow/rules/attribute.smk"
include: "workflow/rules/engine.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/tabulate.smk"
include: "workflow/rules/leaderboard.smk"
include: "workflow/rules/render.smk"


# Everything that the config asks for.
rule all:
    default_target: True
    input:
        "<results>/index.html",
        "<results>/config.yaml",
        "<results>/provenance.json",
        TABLES,
        FIGURES,
        GALLERY,
        ACCURACIES,
        pairs("<results>/targets/{dataset}/{model}.parquet"),
        [
            f"<results>/maps/{d}/{m}/{method}.{kind}"
            for d, m, _, own in BATCHES
            for method in own
            for kind in ("zarr", "json")
        ],
        kept_of(PLAN.scores),


# One paper: its tables, claims, figures, and the tables that it lacks.
for paper in PAPERS:

    rule:
        name:
            paper.id
        input:
            tables_of(paper),
            figures_of(paper, "png"),
            figures_of(paper, "pdf"),
            targets_of(paper),
            kept_of(PLAN.by_paper[paper.id]),


# The engine: where each method's relevance leaks, what it costs, and the gallery.
rule engine:
    input:
        ENGINE_TABLES,
        ENGINE_FIGURES,


# All methods by all numbers, and how far the numbers can be trusted.
rule leaderboard:
    input:
        LEADERBOARD_TABLES,
        LEADERBOARD_FIGURES,
        LEADERBOARD_SCORES,


# One image under every method: the picture of docs/rules.md.
rule gallery:
    input:
        rules.render_gallery.output,
