"""
Helpers that plan the run. No rules here, and no torch: this file is read at every start.
"""

import os
import re
import sys
from dataclasses import replace
from functools import cache
from itertools import groupby, product
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

# The repository, also where another workflow takes this one in as a module: this file lies two folders deep in it.
BASE_FOLDER = str(Path(str(workflow.current_basedir)).parents[1])
ROOT = Path(BASE_FOLDER).resolve()
WORKFLOW = os.path.join(BASE_FOLDER, "workflow")
ROOTS = {"relmap": os.path.join(WORKFLOW, "relmap"), "papers": os.path.join(BASE_FOLDER, "papers")}
# Jobs import relmap and call the tools of this interpreter, whether or not its environment was activated.
sys.path[:0] = [WORKFLOW, BASE_FOLDER]
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [WORKFLOW, BASE_FOLDER, os.environ.get("PYTHONPATH")])),
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
)

from relmap.catalogue.grid import first_lacking, make_plan
from relmap.catalogue.imported import from_file
from relmap.catalogue.methods import CATALOGUE
from relmap.catalogue.metrics import ARTIFACTS as GIVEN_ARTIFACTS, MODEL, metric_settings
from relmap.catalogue.papers import Cell, cells, published, read_paper
from relmap.catalogue.rows import as_configured, configured_models, load_rows, rank
from relmap.errors import InputError
from relmap.evidence.claims import read_claims
from relmap.job.config import check_ids, load
from relmap.job.files import sweep
from relmap.job.imports import closure
from relmap.job.lock import claim
from relmap.job.resources import Measured
from relmap.job.sizes import size

# Whether the workflow runs in its own repository.
INSIDE = Path.cwd().resolve() == ROOT


def here(path):
    """A file of the repository, relative to the working directory where that lies in it."""
    return path if INSIDE else os.path.join(BASE_FOLDER, path)


def named(path):
    """What a config names: from the working directory, or, where that has no such file, of the repository."""
    return path if os.path.exists(path) else here(path)


def folder_of(paper):
    """A paper's folder: of an id the one in papers/, else a path."""
    folder = here(f"papers/{paper}") if re.fullmatch(r"\w+", paper) else named(paper)
    if not os.path.isfile(os.path.join(folder, "paper.yaml")):
        known = sorted(path.parent.name for path in ROOT.glob("papers/*/paper.yaml"))
        raise InputError(
            f"config: `papers`: no paper.yaml in {folder}; known here: {', '.join(known)}; or name a folder"
        )
    return folder


def beside(paper, name):
    """A file of a paper's folder, where it has one."""
    path = os.path.join(paper.folder, name)
    return [path] if os.path.isfile(path) else []


@cache
def printed_by(folder):
    """The cells that the tables of a paper's folder print."""
    paper = next(paper for paper in PAPERS if paper.folder == folder)
    return [cell for number in paper.tables for cell in cells(published(paper, number, ROWS))]


def claimed_by(paper):
    """The cells that a paper's claims compare."""
    printed = [cell.method for cell in printed_by(paper.folder)]
    return [
        Cell(*cell)
        for path in beside(paper, "claims.yaml")
        for claim in read_claims(path, list(dict.fromkeys(printed)), ROWS)
        for comparison in claim.comparisons
        for cell in comparison.cells()
    ]


def refuse_clashes(papers):
    """Names of papers are names of files and rules: each is one paper's, and none of the workflow's own."""
    ids = [paper.id for paper in papers]
    for paper in papers:
        theirs = ROOT / "papers" / paper.id
        taken = ids.count(paper.id) > 1 or (theirs.is_dir() and theirs.resolve() != Path(paper.folder).resolve())
        if (
            taken
            or paper.id in ("all", "engine", "gallery", "leaderboard")
            or not re.fullmatch(r"[A-Za-z]\w*", paper.id)
        ):
            raise InputError(
                f"{paper.folder}: the name of a paper's folder is its id, and {paper.id!r} is another's, the workflow's, "
                "or not made of letters, digits and underscores; rename the folder"
            )


# Those whose published weights are retrieved.
PUBLISHERS = ("torchvision", "torchray", "timm")
HUB = "hf:"


def of_hub():
    """Names of the repositories of the Hugging Face Hub that the config takes weights from."""
    sources = [entry["weights"] for entry in config["models"].values() if entry]
    return [source.removeprefix(HUB) for source in sources if source.startswith(HUB)]


def hub_file(name):
    """The file that a repository's weights become, below the folder of its organisation; no two have the same.

    Raises:
        InputError: the name is not ORG/NAME, maybe with @REVISION.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", name):
        raise InputError(f"config: `weights: {HUB}{name}`: the Hub's names are ORG/NAME or ORG/NAME@REVISION")
    repository, at, revision = name.partition("@")
    return f"{repository}{at}{quote(revision, safe='')}.safetensors"


def refuse_absent_files():
    """A user's own files, named before anything runs; a restored run has what was made of them."""
    if os.path.isfile(os.path.join("results", config["run"], "restored.json")):
        return
    named = {f"models.{name}.weights": entry["weights"] for name, entry in config["models"].items() if entry}
    named |= {f"datasets.{name}.classes": entry["classes"] for name, entry in config["datasets"].items() if entry}
    for where, path in named.items():
        if path in (None, "train", *PUBLISHERS):
            continue
        if path.startswith(HUB):
            hub_file(path.removeprefix(HUB))
            continue
        if not os.path.isfile(path):
            raise InputError(f"config: `{where}`: no file {path}; put it there, or correct the path")


def startable(model):
    """Whether the run has a model, and what its weights start from."""
    row = ROWS.models[model]
    if row.form_of:
        return row.form_of in NETWORKS and startable(row.form_of)
    return not row.initial or NETWORKS[model]["weights"] != "train" or row.initial in NETWORKS


if " " in str(ROOT):
    sys.exit(f"error: the workflow's path has a space, {ROOT}; move the checkout to one without")
try:
    config.update(load(config))
    PAPERS = [read_paper(folder_of(paper)) for paper in config["papers"]]
    refuse_clashes(PAPERS)
    refuse_absent_files()
    # Python files that add rows to the catalogue: the papers' and the user's own.
    EXTENSIONS = [*(path for paper in PAPERS for path in beside(paper, "rows.py")), *map(named, config["extensions"])]
    ROWS = load_rows(EXTENSIONS, config)
    check_ids(config, ROWS)
    ROWS = as_configured(ROWS, config)
    # What papers' rules derive from other data sets needs no entry in the config.
    DERIVED = [name for name, row in ROWS.datasets.items() if row.derived]
    DATASETS = [*(name for name, entry in config["datasets"].items() if entry), *DERIVED]
    # Of a model that is trained several times, each training has its name, and the model's entry.
    NETWORKS = configured_models(ROWS, config)
    MODELS = [name for name in NETWORKS if startable(name)]
    PLAN = make_plan(
        PAPERS, ROWS, DATASETS, MODELS, {paper.id: claimed_by(paper) for paper in PAPERS}, config["methods"]
    )
except InputError as error:
    sys.exit(f"error: {error}")

# Jobs take theirs of these (relmap.job.gpu). What a scheduler has given a job of its own comes before the config.
if config["compute"]["devices"]:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, config["compute"]["devices"])))

# Pairs of data set and model that this run treats: those that a cell asks for; without any paper, the first ones, as
# many as the engine looks at.
PAIRS = sorted(
    PLAN.pairs if PAPERS else [(dataset, model) for dataset in DATASETS for model in MODELS],
    key=lambda pair: rank(*pair),
)
PAIRS = PAIRS if PAPERS else PAIRS[: config["engine"]["networks"]]
# Files that the maps of a trained method need, by arm: (files, settings), functions of data set and model. The rules of
# the paper that trains them put them here.
ARTIFACTS = {}
# Methods that are further trainings of others, which follow from the config, for jobs that read scores.
FURTHER_TRAININGS = [row.to_dict() for row in ROWS.methods.values() if row.training_of]
# Tables that papers' own rules make beside the printed ones, by paper.
EXTRA_TABLES = {}
# Names of tables that their rules compute with a network, and leave in <results>/computed: another job lays them out.
COMPUTED_TABLES = {}


def claim_folder():
    """Refuse a second workflow on the same run, and remove what a killed one left half written.

    Snakemake's own lock outlives a killed process and must then be removed by hand, so the profiles switch it off. The
    kernel's lock ends with its process.
    """
    folder = Path("results", config["run"])
    try:
        free = claim(folder / ".lock", "make it writable, or run in another folder, snakemake --directory")
    except InputError as error:
        sys.exit(f"error: {error}")
    if not free:
        sys.exit(
            f"error: {folder}: another workflow is at work here; wait for it, or give this one another `run`. If none is "
            f"alive, delete {folder}/.lock*"
        )
    sweep(folder)


def let_scheduler_rest():
    """Have Snakemake choose jobs when one has ended, and not without end.

    Its limit of submissions sets a timer of a second whenever it chooses jobs, whose end has it choose again: after some
    hundred jobs as many timers keep a core busy with looking at the sizes of inputs. On one machine nothing is submitted.
    """
    if not workflow.non_local_exec and getattr(workflow.scheduler, "job_rate_limiter", None):
        workflow.scheduler.job_rate_limiter = None


# What jobs took: resources/measured.csv, remade from a run by `python -m relmap.job.measuring`. Their rules ask for more
# than that, and for as much again whenever a job is tried anew. On one machine it limits nothing unless --resources says so.
MEASURED = Measured.read(here("resources/measured.csv"))


def job_size(rule, wildcards, place):
    """How large a rule's job is, by its data set and network."""
    named_by = {key: place.get(key) or wildcards.get(key) for key in ("dataset", "model")}
    return size(config, rule, **named_by, parts=PARTS if "scatteritem" in wildcards.keys() else 1)


def memory_of(rule, **place):
    """Resource function: MB for a rule's job, whose place its wildcards say, else `place`."""

    def mem_mb(wildcards, attempt):
        need = MEASURED.memory_mb(rule, job_size(rule, wildcards, place))
        return attempt * round(need * config["compute"]["headroom"])

    return mem_mb


def minutes_of(rule, **place):
    """Resource function: minutes, as `memory_of`; at most what the config says."""

    def runtime(wildcards, attempt):
        need = MEASURED.minutes(rule, job_size(rule, wildcards, place))
        asked = attempt * round(need * config["compute"]["headroom"])
        return min(asked, config["compute"]["longest"] or asked)

    return runtime


def threads_of(rule, reads=False):
    """As many as its jobs kept busy; where a network waits for pictures, at least those of the config that read them."""
    return max(MEASURED.threads(rule), config["compute"]["threads"] if reads else 1)


def alternatives(names):
    """Regular expression of any of the names; of none, one that never matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


def library(*paths):
    """Files that scripts or notebooks import, as inputs: what a rule computes follows from them."""
    given = [ROOT / path for path in paths]
    modules = [path for path in given if "scripts" not in path.parts and path.suffix == ".py"]
    found = sorted({*closure(given, ROOTS), *modules})
    return [here(str(path.relative_to(ROOT))) if path.is_relative_to(ROOT) else str(path) for path in found]


def library_with_rows(script, files):
    """What a script imports, and what the Python files import whose rows it reads."""
    return library(script, *map(os.path.abspath, files))


def maker_file(maker, package):
    """The Python file that a row's `module:name` lies in."""
    path = maker.rpartition(":")[0]
    return os.path.abspath(path) if path.endswith(".py") else f"{package}/{path.replace('.', '/')}.py"


def sources(*kinds):
    """Data sets whose pictures come from one of the given sources."""
    return [name for name in DATASETS if name not in DERIVED and config["datasets"][name]["source"] in kinds]


def other_forms():
    """Models that have the weights of another on every data set."""
    return [name for name in MODELS if ROWS.models[name].form_of]


def trained():
    """Models that are trained here; the others' weights come from files, or are another model's."""
    return [name for name in MODELS if NETWORKS[name]["weights"] == "train" and name not in other_forms()]


def starting():
    """Models whose weights on the base data set are another model's: no publisher has their own."""
    rows = {name: ROWS.models[name] for name in MODELS}
    return [name for name, row in rows.items() if row.initial and NETWORKS[name]["weights"] not in row.published]


def shows_classes_of(dataset):
    """Whether any picture of the run is told apart into a data set's classes: whether a network needs them there."""
    return any(other == dataset or ROWS.datasets[other].classified_by == dataset for other, _ in PAIRS)


# The data sets besides the base, by what becomes of a network there: trained for several classes an image; taken as it
# is from the data set whose classes it has; its fully connected part trained.
def borrowing():
    return [name for name in DATASETS if name != BASE and ROWS.datasets[name].classified_by]


def labelled_severally():
    return [name for name in DATASETS if name not in (BASE, *borrowing()) and ROWS.datasets[name].multi_label]


def finetuning():
    return [name for name in DATASETS if name not in (BASE, *borrowing(), *labelled_severally())]


def lender(wildcards):
    """The weights that a network on another data set starts from, or has."""
    model = wildcards.model
    if model in other_forms():
        return f"<results>/models/{wildcards.dataset}/{ROWS.models[model].form_of}.safetensors"
    home = ROWS.datasets[wildcards.dataset].classified_by or BASE
    lent = ROWS.models[model].initial if home == BASE and model in starting() else model
    return f"<results>/models/{home}/{lent}.safetensors"


def is_trained(dataset, model):
    """Whether anything of a network is trained on a data set."""
    if model in other_forms():
        return False
    if dataset == BASE:
        return model in trained() and model not in starting()
    if dataset in labelled_severally():
        return model in trained() or model not in starting()
    return dataset not in borrowing()


def root_of(wildcards):
    """Folder of a data set that is not rendered."""
    return config["datasets"][wildcards.dataset]["path"] or f"{config['data_root']}/{wildcards.dataset}"


def trains_on(wildcards):
    """Whether anything is trained on a data set: a classifier, its fully connected part, or what a method takes."""
    dataset = wildcards.dataset
    models = [model for one, model in PAIRS if one == dataset]
    return any(is_trained(dataset, model) for model in models) or any(
        ROWS.methods[method].arm for model in models for method in PLAN.methods.get((dataset, model), ())
    )


def downloads():
    """The download table; read only by runs that retrieve something."""
    from relmap.data.retrieve.download import read_table

    return read_table(os.path.join(BASE_FOLDER, "resources/downloads.csv"))


def files_of(dataset):
    """Rows of the download table that belong to one data set."""
    return [entry for entry in downloads().values() if entry.dataset == dataset]


def unpacked(wildcards):
    """A retrieved data set's files: marks of unpacked archives, and what is no archive; none for one that lies there."""
    if wildcards.dataset not in sources("retrieve"):
        return []
    return [
        f"<data_root>/{wildcards.dataset}/{'.unpacked' if entry.extract_to else 'archives'}/{entry.name}"
        for entry in files_of(wildcards.dataset)
    ]


def identity(wildcards):
    """What makes a retrieved file the right one."""
    entry = downloads()[wildcards.file]
    return [entry.url, entry.size, *entry.digest]


def destination(wildcards):
    """Folder below the data set's that an archive unpacks into."""
    return downloads()[wildcards.file].extract_to


def published_weights(wildcards):
    """A model's file of weights: the published one, or the one that the config names."""
    dataset, model = wildcards.dataset, wildcards.model
    source = NETWORKS[model]["weights"]
    if source.startswith(HUB):
        return f"<data_root>/hub_models/{hub_file(source.removeprefix(HUB))}"
    if source not in PUBLISHERS:
        return source
    stems = ROWS.models[model].published
    stem = stems.get(dataset, stems.get(source, stems.get("", model)))
    file = re.compile(re.escape(stem) + r"(-[0-9a-f]{8})?\.(pth|pth\.tar|safetensors)")
    names = [entry.name for entry in files_of(f"{source}_models") if file.fullmatch(entry.name)]
    if not names:
        raise WorkflowError(
            f"config: `models.{model}.weights`: {source} publishes none of {model} for {dataset}; write train, or a file"
        )
    return f"<data_root>/{source}_models/archives/{names[0]}"


# The data set that classifiers are pretrained on, or that published weights are of.
BASE = config["training"]["base"]


def recipe(stage):
    """Params function: how a model is trained, what holds for all models and what its own entry says otherwise."""

    def merged(wildcards):
        own = NETWORKS[wildcards.model].get(stage) or {}
        common = config["training"][stage]
        augmentation = {**common["augmentation"], **own.get("augmentation", {})}
        fixed = {"start_size": 0} if "start_size" in common and ROWS.models[wildcards.model].one_size else {}
        return {**common, **own, **fixed, "augmentation": augmentation}

    return merged


def training_seed(wildcards):
    """Seed of a model's trainings: its own or the run's, plus which of several networks it is."""
    return first_seed(wildcards) + ROWS.models[wildcards.model].number


def first_seed(wildcards):
    """That of the first of several networks."""
    own = NETWORKS[wildcards.model]["seed"]
    return config["seed"] if own is None else own


def trained_together():
    """Networks of models that are trained several times, on features and alike -> their model."""
    found = {}
    for name in MODELS:
        model = ROWS.models[name].training_of
        alike = model and NETWORKS[name] == config["models"].get(model)
        if alike and recipe("finetune")(SimpleNamespace(model=name))["trainable"] != "all":
            found[name] = model
    return found


def model_settings(wildcards):
    """Size and architecture of a model; that of a user's own row is named with its file."""
    entry = NETWORKS[wildcards.model]
    model = ROWS.models[wildcards.model].training_of or wildcards.model
    own = [path for path in EXTENSIONS if model in [row.id for row in getattr(from_file(path), "MODELS", ())]]
    architecture = f"{own[0]}:{model}" if own else model
    sizes = {key: entry[key] for key in ("weights", "width", "input_size", "resize")}
    row = ROWS.models[wildcards.model]
    seen = {**row.seen, **({"fit": entry["fit"]} if entry["fit"] else {})}
    return {"architecture": architecture, "head": row.head, "last": row.last, "seen": seen, **sizes}


def fit_of(wildcards):
    """How pictures are fitted to a network that has another's weights; None for as to that one."""
    if wildcards.model in other_forms():
        return model_settings(wildcards)["seen"].get("fit", "crop")
    return ROWS.datasets[wildcards.dataset].fit


def most_images(wildcards):
    """How many test images of a data set a network is evaluated on at most: its own number, or everybody's."""
    return NETWORKS[wildcards.model]["max_images"] or config["evaluation"]["max_images"]


def explained(wildcards):
    """Which classes of an image are explained: as its data set says, else as for all of them."""
    entry = config["datasets"].get(wildcards.dataset) or {}
    return entry.get("target") or config["evaluation"]["target"]


def model_library(script):
    """Input function: what a script imports, and the file that makes its model."""
    return lambda wildcards: library(script, maker_file(ROWS.models[wildcards.model].maker, "workflow/relmap/models"))


def reader_of(wildcards):
    """What reads a data set."""
    return ROWS.datasets[wildcards.dataset].reader


def classes_of(wildcards):
    """The file that names a data set's classes, where its config names one."""
    named = config["datasets"].get(wildcards.dataset, {}).get("classes")
    return [named] if named else []


def left_out(wildcards):
    """Ids of images that a data set's config leaves out."""
    return config["datasets"].get(wildcards.dataset, {}).get("exclude", [])


def classifier_of(wildcards):
    """The manifest whose classes a data set takes over, where its config names no file of classes."""
    source = ROWS.datasets[wildcards.dataset].classified_by
    if not source or classes_of(wildcards):
        return []
    if source not in DATASETS:
        raise WorkflowError(
            f"datasets.{wildcards.dataset} takes its classes from {source}, which `datasets` leaves out; take it in, or "
            f"name the classes in a file, `datasets.{wildcards.dataset}.classes`"
        )
    return [f"<results>/manifests/{source}.parquet"]


def published_counts(wildcards):
    """How many images and pairs a retrieved data set must have; of one that is made here nobody says."""
    retrieved = wildcards.dataset in sources("retrieve")
    return dict(ROWS.datasets[wildcards.dataset].counts) if retrieved else {}


def renderer_of(wildcards):
    """What renders a data set."""
    return ROWS.datasets[wildcards.dataset].renderer


def pairs(pattern, datasets=None):
    """The pattern filled with every pair of data set and model, or those of some data sets."""
    return [
        pattern.format(dataset=dataset, model=model)
        for dataset, model in PAIRS
        if datasets is None or dataset in datasets
    ]


def makers(methods):
    """Files of the explainers that make some methods, ids or rows; their names in the catalogue are no imports."""
    found = []
    for method in methods:
        row = ROWS.methods.get(method, method)
        found += [maker_file(row.maker, "workflow/relmap/explainers")]
        found += makers([row.wraps]) if row.wraps else []
    return list(dict.fromkeys(found))


def batches_of(dataset, model):
    """Methods by the job that makes them: what needs no artifacts shares its forward passes, each arm is a job."""
    found = {}
    for method in PLAN.methods.get((dataset, model), ()):
        found.setdefault(ROWS.methods[method].arm or "plain", []).append(method)
    return found


# Jobs that divide the pairs of a data set and model; `--set-scatter pairs=N` overrules the config.
scattergather:
    pairs=config["compute"]["parts"],


PARTS = len(gather.pairs("{scatteritem}"))


def shared(path, divided=PARTS > 1):
    """Where a file of the run lies, or a job's share of it where jobs divide the work."""
    return f"<results>/parts/{{scatteritem}}/{path}" if divided else f"<results>/{path}"


def passing(path, divided=PARTS > 1):
    """A file, or a job's share of it, which goes when all are put together."""
    return temp(path) if divided else path


def all_shares(paths):
    """The shares of files, one file after another; Snakemake's own `gather` fills the first of several patterns alone."""
    return [share for path in paths for share in gather.pairs(shared(path))]


def share_of(wildcards):
    """Which share of the work a job has."""
    return getattr(wildcards, "scatteritem", "1-of-1")


def divided(metric):
    """Whether several jobs may score a metric."""
    return PARTS > 1 and not ROWS.metrics[metric].together


# What one job makes: data set, model, arm, and its methods.
BATCHES = [
    (dataset, model, arm, methods) for dataset, model in PAIRS for arm, methods in batches_of(dataset, model).items()
]


def artifacts_of(arm, dataset, model):
    """Input function: the files that an arm's methods need."""
    return [] if arm == "plain" else ARTIFACTS[arm][0](dataset, model)


def artifact_settings(arm, dataset, model):
    """Their settings."""
    return {} if arm == "plain" else ARTIFACTS[arm][1](dataset, model)


def arms_scored(dataset, model, metric):
    """What a metric that makes maps anew is given for methods that take artifacts: by arm, ids, files and settings."""
    scored = PLAN.scores[dataset, model, metric] if GIVEN_ARTIFACTS in ROWS.metrics[metric].needs else ()
    return [
        SimpleNamespace(
            methods=[method for method in methods if method in scored],
            files=artifacts_of(arm, dataset, model),
            settings=artifact_settings(arm, dataset, model),
        )
        for one, other, arm, methods in BATCHES
        if (one, other) == (dataset, model) and arm != "plain" and set(methods) & set(scored)
    ]


def asks_network(metric):
    """Whether a metric asks the network."""
    return MODEL in ROWS.metrics[metric].needs


def metrics_of_maps():
    """The metrics of a data set and model that look at maps alone, by whether jobs divide their pairs.

    Those of a paper's own rules are no rows.
    """
    keys = sorted((key for key in PLAN.scores if key[2] in ROWS.metrics), key=lambda key: rank(*key))
    found = {}
    for dataset, model, metric in keys:
        if not asks_network(metric):
            found.setdefault((dataset, model, divided(metric)), []).append(metric)
    return [(*key, metrics) for key, metrics in found.items()]


def scored(dataset, model, metrics):
    """Methods that any of some metrics score on a data set and model."""
    return list(dict.fromkeys(method for metric in metrics for method in PLAN.scores[dataset, model, metric]))


def stores_of(dataset, model, metrics):
    """Their map stores."""
    return [f"<results>/maps/{dataset}/{model}/{method}.zarr" for method in scored(dataset, model, metrics)]


def hashes_of(dataset, model, metrics):
    """Manifests of the map stores: their content hashes decide what must be scored anew."""
    return [path.replace(".zarr", ".json") for path in stores_of(dataset, model, metrics)]


def method_rows(dataset, model, metrics):
    """Rows of the methods that some metrics score, in the order of their stores."""
    return [ROWS.methods[method].to_dict() for method in scored(dataset, model, metrics)]


def metrics_scored(dataset, model, metrics):
    """What one job scores: of each metric its function, its methods and its settings."""
    return [
        {
            "score": ROWS.metrics[metric].score,
            "methods": list(PLAN.scores[dataset, model, metric]),
            "together": ROWS.metrics[metric].together,
            "settings": metric_settings(ROWS.metrics[metric], config["evaluation"]),
        }
        for metric in metrics
    ]


def library_of_metrics(metrics):
    """What the scores of some metrics are computed by."""
    makers = [maker_file(ROWS.metrics[metric].score, "workflow/relmap/metrics") for metric in metrics]
    return library("workflow/scripts/score.py", *makers)


def scores_of(paper):
    """Score files that a paper's tables and claims are read from."""
    return [
        f"<results>/scores/{dataset}/{model}/{metric}.parquet"
        for dataset, model, metric in sorted(PLAN.by_paper[paper.id], key=lambda key: rank(*key))
    ]


def kept_of(keys):
    """Scores, and the maps that they are of with their manifests, of some data sets, models and metrics.

    A target that asks for them has them remade when they are gone; what stands between, Snakemake does not miss.
    """
    own = [key for key in sorted(keys, key=lambda key: rank(*key)) if key[2] in ROWS.metrics]
    scores = [f"<results>/scores/{dataset}/{model}/{metric}.parquet" for dataset, model, metric in own]
    makers = [(make, *key) for key in own for make in (stores_of, hashes_of)]
    return [*scores, *dict.fromkeys(path for make, d, m, metric in makers for path in make(d, m, [metric]))]


def targets_of(paper):
    """What is explained of the pairs of data set and model that a paper's tables and claims are read from."""
    places = dict.fromkeys((dataset, model) for dataset, model, _ in PLAN.by_paper[paper.id])
    return [f"<results>/targets/{d}/{m}.parquet" for d, m in sorted(places, key=lambda place: rank(*place))]


@cache
def ids_in(path):
    """Ids of the rows that a Python file adds, and of the published numbers of its metrics."""
    added = from_file(path)
    rows = [row for kind in ("METHODS", "METRICS", "DATASETS", "MODELS") for row in getattr(added, kind, ())]
    rows += getattr(added, "methods", lambda config: ())(config)
    return {row.id for row in rows} | {column.id for row in rows for column in getattr(row, "columns", ())}


def extensions_of(paper):
    """Python files that a paper's tables are read with: its own, the user's, and those whose rows it names."""
    own = [*beside(paper, "rows.py"), *map(named, config["extensions"])]
    shown = (*printed_by(paper.folder), *paper.measured)
    used = {name for c in shown for name in (c.dataset, c.model, c.method, c.metric)}
    return [path for path in EXTENSIONS if path in own or {*used, *config["methods"]} & ids_in(path)]


def missing_of(paper):
    """What this run lacks for each cell of a paper that it cannot fill."""
    shown = [*printed_by(paper.folder), *paper.measured]
    below = [replace(cell, method=method) for cell in shown for method in (*config["methods"], *paper.controls)]
    known = replace(ROWS, networks=paper.networks)
    lacking = {cell: first_lacking(cell, known, DATASETS, MODELS) for cell in dict.fromkeys([*shown, *below])}
    return {str(cell): why for cell, why in lacking.items() if why}


def formats(name, *suffixes):
    """One table in several formats."""
    return [f"<results>/tables/{name}.{suffix}" for suffix in suffixes or ("csv", "md", "tex")]


# At the start of a line Snakemake takes `report` for its directive.
shown = report


def figure_numbers(paper, notebook=None):
    """Numbers of a paper's figures, or of one notebook's, that this run has everything for."""
    return [
        figure["number"]
        for figure in paper.figures
        if figure.get("notebook") and notebook in (None, figure["notebook"]) and drawable(paper, figure)
    ]


def places_of(paper, notebook):
    """Pairs of data set and model that have the methods which a notebook shows."""
    wanted = set(paper.notebooks[notebook].get("methods", []))
    return [pair for pair in PAIRS if wanted <= set(PLAN.methods.get(pair, ()))]


def drawable(paper, figure):
    """Whether this run has the pairs of data set and model that a figure shows; of one that names none, any."""
    here_ = places_of(paper, figure["notebook"])
    wanted = [tuple(pair) for pair in figure.get("pairs", [])]
    return bool(here_) and all(pair in here_ for pair in wanted)


def figures_of(paper, suffix, notebook=None):
    """Files of a paper's figures."""
    return [f"<results>/figures/{paper.id}_figure{number:02}.{suffix}" for number in figure_numbers(paper, notebook)]


def notebooks_of(paper):
    """Notebooks of a paper that draw something in this run."""
    return [notebook for notebook in paper.notebooks if figure_numbers(paper, notebook)]


def notebook_file(paper, notebook):
    """A paper's notebook: in notebooks/<paper>, or, of a paper from elsewhere, in its own folder."""
    path = here(f"notebooks/{paper.id}/{notebook}.ipynb")
    return path if os.path.isfile(path) else os.path.join(paper.folder, f"{notebook}.ipynb")


NOTEBOOK_INPUTS = {
    "manifests": "<results>/manifests/{dataset}.parquet",
    "targets": "<results>/targets/{dataset}/{model}.parquet",
    "cards": "<results>/models/{dataset}/{model}.json",
    "histories": "<results>/models/{dataset}/{model}.history.csv",
}


def read_by(paper, notebook):
    """What a notebook reads, as its paper says: names of NOTEBOOK_INPUTS, scores, or files below the run's folder.

    What a single figure reads is read where this run draws it.
    """
    drawn = figure_numbers(paper, notebook)
    own = [need for figure in paper.figures if figure["number"] in drawn for need in figure.get("reads", [])]
    found = []
    for need in [*paper.notebooks[notebook].get("reads", []), *own]:
        if need == "scores":
            found += scores_of(paper)
        elif need in NOTEBOOK_INPUTS:
            found += [NOTEBOOK_INPUTS[need].format(dataset=d, model=m) for d, m in places_of(paper, notebook)]
        else:
            found += [f"<results>/{need}"]
    return list(dict.fromkeys(found))


def notebook_parameters(paper, notebook):
    """Arguments of papermill: parameters by the keys of the config that they are."""
    given = []
    for name, key in paper.notebooks[notebook].get("parameters", {}).items():
        value = config
        for part in key.split("/"):
            value = value[part]
        given += [f"-p {name} {value}"]
    return " ".join(given)


def measured_of(paper, *suffixes):
    """The table of what a paper's figures show beside its tables, in some formats, where there is such."""
    return formats(f"{paper.id}_measured", *suffixes) if paper.measured else []


def significance_of(paper, *suffixes):
    """The table of the tests behind a paper's stars, in some formats, where it asks for them."""
    return formats(f"{paper.id}_significance", *suffixes) if paper.significance else []


def tables_of(paper):
    """All tables of a paper: its own, its claims, and what its rules add."""
    return [
        *(path for number in paper.tables for path in formats(f"{paper.id}_table{number}")),
        *(
            path
            for name in ("claims", "comparisons")
            for path in formats(f"{paper.id}_{name}", "csv", "md")
            if beside(paper, "claims.yaml")
        ),
        *measured_of(paper, "csv", "md"),
        *significance_of(paper, "csv", "md"),
        *EXTRA_TABLES.get(paper.id, []),
        *(path for name in COMPUTED_TABLES.get(paper.id, []) for path in formats(name, "csv", "md")),
    ]


def files_of_papers():
    """What the report reads of every paper, of the run or not: it says how far the run takes each."""
    found = [*Path(here("papers")).glob("*/*"), *(path for paper in PAPERS for path in Path(paper.folder).iterdir())]
    return sorted({str(path) for path in found if path.suffix in (".csv", ".yaml") or path.name == "rows.py"})


# Every method of the catalogue that wraps no other, or those that the config names; what a network does not admit is
# left out there.
ENGINE_METHODS = config["engine"]["methods"] or [method for method, row in CATALOGUE.items() if row.wraps is None]
# Those that run the network hundreds of times cost that; they are measured where the config names them.
COST_METHODS = config["engine"]["methods"] or [name for name in ENGINE_METHODS if not CATALOGUE[name].trial]
# The networks that it looks at: some suffice to compare methods. Of a model that is trained several times the first, after
# the others.
ENGINE_PAIRS = sorted(
    (pair for pair in PAIRS if not ROWS.models[pair[1]].number), key=lambda pair: bool(ROWS.models[pair[1]].training_of)
)[: config["engine"]["networks"]]
# What these jobs are as large as.
ENGINE_PLACE = dict(zip(("dataset", "model"), ENGINE_PAIRS[0])) if ENGINE_PAIRS else {}
COST_MODELS = [
    model
    for dataset, model in ENGINE_PAIRS
    if dataset == ENGINE_PAIRS[0][0] and model in config["engine"]["cost"]["models"]
]


def engine_pairs(pattern):
    """The pattern filled with every pair of data set and model that the engine looks at."""
    return [pattern.format(dataset=dataset, model=model) for dataset, model in ENGINE_PAIRS]


ENGINE_TABLES = [
    *(path for name in ("conservation", "conservation_summary") for path in formats(name, "csv") if PAIRS),
    *(formats("cost", "csv", "md") if COST_MODELS else []),
]
ACCURACIES = ["<results>/tables/accuracies.csv"] if PAIRS else []
# Networks whose weights come from files have no history to draw.
TRAINED_HERE = any(is_trained(*pair) for pair in PAIRS)
TRAINING_FIGURE = {
    suffix: [f"<results>/figures/training_curves.{suffix}"] if TRAINED_HERE else [] for suffix in ("png", "pdf", "json")
}
ENGINE_FIGURES = [
    path
    for suffix in ("png", "pdf", "json")
    for path in engine_pairs(f"<results>/figures/gallery_{{dataset}}_{{model}}.{suffix}")
]
# Those of them that have birds rendered again with a part changed, and numbers of it.
SIBLING_PAIRS = [pair for pair in ENGINE_PAIRS if (*pair, "minimal_pairs") in PLAN.scores]
SIBLING_NAMES = [f"minimal_pairs_{dataset}_{model}" for dataset, model in SIBLING_PAIRS]
SIBLING_NAMES += ["minimal_pairs_numbers"] if SIBLING_PAIRS else []


def sibling_pairs(pattern):
    """The pattern filled with every pair of data set and model that is shown beside siblings."""
    return [pattern.format(dataset=dataset, model=model) for dataset, model in SIBLING_PAIRS]


# What all methods are ranked by: of a model that is trained several times, by its first network, so that none weighs more
# than another.
LEADERBOARD_SCORES = [
    f"<results>/scores/{dataset}/{model}/{metric}.parquet"
    for dataset, model, metric in sorted(PLAN.scores, key=lambda key: rank(*key))
    if not ROWS.models[model].number
]
LEADERBOARD_NAMES = ["leaderboard_ranks", "leaderboard_agreement"]
LEADERBOARD_TABLES = [
    path
    for name in ("leaderboard", *LEADERBOARD_NAMES, "metric_trust")
    for path in formats(name, "csv", "md")
    if LEADERBOARD_SCORES
]
LEADERBOARD_FIGURES = [
    f"<results>/figures/{name}.{suffix}"
    for name in (*LEADERBOARD_NAMES, *SIBLING_NAMES)
    for suffix in ("png", "pdf", "json")
    if LEADERBOARD_SCORES
]
# What the report's gallery shows: of a model or a method that is trained several times the first training alone.
GALLERY_PLACES = [
    (dataset, model, [method for method in PLAN.methods[dataset, model] if not ROWS.methods[method].training_of])
    for dataset, model in PAIRS
    if PLAN.methods.get((dataset, model)) and not ROWS.models[model].number
]
GALLERY = ["<results>/gallery"] if GALLERY_PLACES else []
# What the report's page is made from beside Python.
PAGE = [
    here(str(path.relative_to(ROOT)))
    for suffix in ("j2", "css", "js")
    for path in sorted((ROOT / "workflow/relmap/report").glob(f"*.{suffix}"))
]


def gallery_stores(suffix):
    """Their stores, or the manifests of these."""
    return [f"<results>/maps/{d}/{m}/{method}{suffix}" for d, m, methods in GALLERY_PLACES for method in methods]


def gallery_places(pattern):
    """The pattern filled with every pair of data set and model of the gallery."""
    return list(dict.fromkeys(pattern.format(dataset=d, model=m) for d, m, _ in GALLERY_PLACES))
