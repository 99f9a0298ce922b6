"""
Helpers that plan the run. No rules here, and no torch: this file is read at every start.
"""

import fcntl
import os
import re
import sys
from pathlib import Path

ROOT = Path(workflow.basedir).resolve()
WORKFLOW = os.path.join(workflow.basedir, "workflow")
ROOTS = {"relmap": os.path.join(WORKFLOW, "relmap"), "papers": os.path.join(workflow.basedir, "papers")}
# Jobs import relmap and call the tools of this interpreter, whether or not its environment was activated.
sys.path[:0] = [WORKFLOW, workflow.basedir]
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [WORKFLOW, workflow.basedir, os.environ.get("PYTHONPATH")])),
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
)

from relmap.catalogue.methods import CATALOGUE, CLAM_ARM, UNTRAINED_ARM, clam_methods
from relmap.explainers.clam.layers import layer_file, select_layers
from relmap.job.config import load
from relmap.job.imports import closure
from relmap.errors import InputError

try:
    config.update(load(config))
except InputError as error:
    sys.exit(f"error: {error}")

DATASETS = [name for name, entry in config["datasets"].items() if entry]
MODELS = [name for name, entry in config["models"].items() if entry]
ARMS = list(config["clam"]["arms"])
CLAM, UNTRAINED = CLAM_ARM, UNTRAINED_ARM
METRIC_FAMILIES = ["pointing", "lerf", "segmentation"]
# Mean IoU needs segmentations, which ImageNet has not.
SEGMENTED = ["cub200_2011"]


def claim_folder():
    """Refuse a second workflow on the same run.

    Snakemake's own lock outlives a killed process and must then be removed by hand, so the profiles switch it off. The
    kernel's lock ends with its process.
    """
    global folder_lock
    folder = Path("results", config["run"])
    folder.mkdir(parents=True, exist_ok=True)
    folder_lock = open(folder / ".lock", "w")
    try:
        fcntl.flock(folder_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(f"{folder}: another workflow is at work here; wait for it, or give this one another `run`")


def alternatives(names):
    """Regular expression of any of the names; of none, one that never matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


def here(path):
    """A file of the repository, relative to the working directory where that lies in it."""
    absolute = os.path.join(workflow.basedir, path)
    inside = Path.cwd().resolve() == Path(workflow.basedir).resolve()
    return path if inside else absolute


def library(*paths):
    """Files that scripts or notebooks import, as inputs: what a rule computes follows from them."""
    given = [ROOT / path for path in paths]
    modules = [path for path in given if path.parent.name not in ("scripts", "notebooks") and path.suffix == ".py"]
    return [here(str(path.relative_to(ROOT))) for path in sorted({*closure(given, ROOTS), *modules})]


def sources(*kinds):
    """Data sets whose pictures come from one of the given sources."""
    return [name for name in DATASETS if config["datasets"][name]["source"] in kinds]


def trained():
    """Models that are trained here; the others' weights come from files."""
    return [name for name in MODELS if config["models"][name]["weights"] == "train"]


def root_of(wildcards):
    """Folder of a data set that is not rendered."""
    return config["datasets"][wildcards.dataset]["path"] or f"{config['data_root']}/{wildcards.dataset}"


def trains_on(wildcards):
    """Whether anything is trained on a data set: a classifier, its fully connected part, or CLA-layers."""
    dataset = wildcards.dataset
    classifier = bool(trained()) if dataset == "imagenet" else bool(MODELS)
    return classifier or any(arms_of(dataset, model) for model in MODELS)


def downloads():
    """The download table; read only by runs that retrieve something."""
    from relmap.data.retrieve.download import read_table

    return read_table(os.path.join(workflow.basedir, "resources/downloads.csv"))


def files_of(dataset):
    """Rows of the download table that belong to one data set."""
    return [entry for entry in downloads().values() if entry.dataset == dataset]


def unpacked(wildcards):
    """Marks of a retrieved data set's unpacked archives; none for one that lies there already."""
    if wildcards.dataset not in sources("retrieve"):
        return []
    return [
        f"<data_root>/{wildcards.dataset}/.unpacked/{entry.name}"
        for entry in files_of(wildcards.dataset)
        if entry.extract_to
    ]


def identity(wildcards):
    """What makes a retrieved file the right one."""
    entry = downloads()[wildcards.file]
    return [entry.url, entry.size, *entry.digest]


def destination(wildcards):
    """Folder below the data set's that an archive unpacks into."""
    return downloads()[wildcards.file].extract_to


def published_weights(wildcards):
    """A model's file of weights: torchvision's, or the one that the config names."""
    named = config["models"][wildcards.model]["weights"]
    if named not in ("train", "torchvision"):
        return named
    name = next(entry.name for entry in files_of("torchvision_models") if entry.name.startswith(f"{wildcards.model}-"))
    return f"<data_root>/torchvision_models/archives/{name}"


def arms_of(dataset, model):
    """Trained arms of CLAM that the config places on a data set and model."""
    return [arm for arm, places in config["clam"]["arms"].items() if model in places.get(dataset, {})]


def layers_of(dataset, model, arm):
    """Layers with a CLA-layer, from the output to the input; the untrained control has those of `clam`."""
    places = config["clam"]["arms"][CLAM if arm == UNTRAINED else arm]
    return select_layers(model, places[dataset][model])


def cla_layers(dataset, model, arm, stop=None):
    """Files of the CLA-layers of one arm, from the output, up to but without place `stop`."""
    names = [layer_file(*item) for item in enumerate(layers_of(dataset, model, arm))]
    return [f"<results>/clam/{dataset}/{model}/{arm}/{name}.safetensors" for name in names[:stop]]


def layers_above(wildcards):
    """CLA-layers that refine relevance before it reaches this one."""
    return cla_layers(wildcards.dataset, wildcards.model, wildcards.arm, int(wildcards.place))


def whole_chain(wildcards):
    """All CLA-layers of an arm."""
    return cla_layers(wildcards.dataset, wildcards.model, wildcards.arm)


# Every method of this run: the catalogue's, and CLAM's with the layers of the config's own arms.
METHODS = CATALOGUE | {method.id: method for arm in ARMS for method in clam_methods(arm) if method.id not in CATALOGUE}

# What CLAM's tables show, and the controls beside them. Jobs make them in batches: what needs no artifacts shares its
# forward passes, and each arm of CLAM is a batch of its own.
METHOD_BATCHES = {
    "plain": [
        "lrp_alpha1_beta0_norms",
        "clrp_norms",
        "sglrp_norms",
        "input_x_gradient",
        "deconvnet",
        "saliency",
        "guided_backprop",
        "grad_cam",
        "excitation_backprop",
        "constant",
        "random",
        "centre_gaussian",
    ],
    **{arm: [method.id for method in clam_methods(arm)] for arm in (*ARMS, UNTRAINED)},
}


def makers(methods):
    """Files of the explainers that make some methods; their names in the catalogue are no import statements."""
    found = []
    for method in methods:
        row = METHODS[method]
        found += [f"workflow/relmap/explainers/{row.maker.split(':')[0].replace('.', '/')}.py"]
        found += makers([row.wraps]) if row.wraps else []
    return list(dict.fromkeys(found))


def methods_of(wildcards):
    """Ids of the methods that one data set and model have, in the tables' order."""
    batches = ["plain", *arms_of(wildcards.dataset, wildcards.model), UNTRAINED]
    return [method for batch in batches for method in METHOD_BATCHES[batch]]


def stores_of(wildcards):
    """Map stores of all methods."""
    return [f"<results>/maps/{wildcards.dataset}/{wildcards.model}/{method}.zarr" for method in methods_of(wildcards)]


def hashes_of(wildcards):
    """Manifests of all map stores: their content hashes decide what must be scored anew."""
    return [path.replace(".zarr", ".json") for path in stores_of(wildcards)]


def pairs(pattern, datasets=DATASETS):
    """The pattern filled with every data set and model."""
    return expand(pattern, dataset=datasets, model=MODELS)


PAIRS = [(dataset, model) for dataset in DATASETS for model in MODELS]

# The birds' parts, and which of them tell classes apart, are known where they are rendered.
PARTED = [name for name in sources("render") if name == "cub200_2011"]

# What training and refining depend on; the arms decide only which layers there are.
CLAM_SETTINGS = {
    key: value
    for key, value in config["clam"].items()
    if key not in ("arms", "related") and not key.startswith("ablation")
}

CLAM_NOTEBOOKS = {
    "clam_comparison": [3, 7, 8, 9, 10, 11, 12, 13],
    "clam_curves": [5, 6],
    "clam_layers": [4, 14, 15, 16, 17, 18],
}


def all_layers(wildcards):
    """Names of an arm's layers, from the output to the input."""
    return list(layers_of(wildcards.dataset, wildcards.model, wildcards.arm))


def untrained_layers(wildcards):
    """Names of the control's layers."""
    return list(layers_of(wildcards.dataset, wildcards.model, UNTRAINED))


def artifacts_of(batch):
    """Input function: the CLA-layers that a batch of methods needs."""

    def layers(wildcards):
        if batch == UNTRAINED:  # one job draws them all, into one folder
            return [f"<results>/clam/{wildcards.dataset}/{wildcards.model}/{UNTRAINED}"]
        return [] if batch == "plain" else cla_layers(wildcards.dataset, wildcards.model, batch)

    return layers


def settings_on(layers):
    """CLAM's settings on some layers; those of other models' layers are left out."""
    own = {name: values for name, values in CLAM_SETTINGS["layers"].items() if name in layers}
    return {**CLAM_SETTINGS, "layers": own}


def clam_settings(wildcards):
    """CLAM's settings on an arm's layers (without the wildcard, on those of `clam`)."""
    return settings_on(layers_of(wildcards.dataset, wildcards.model, wildcards.get("arm", CLAM)))


def settings_of(batch):
    """Params function: CLAM's settings for its arms, nothing for others."""

    def settings(wildcards):
        return {} if batch == "plain" else settings_on(layers_of(wildcards.dataset, wildcards.model, batch))

    return settings


def clam_chain(wildcards):
    """CLA-layers of the paper's arm."""
    return cla_layers(wildcards.dataset, wildcards.model, CLAM)


def scores(*families):
    """Score files of all data sets and models that have them."""
    places = {"segmentation": SEGMENTED, "attributes": PARTED}
    return [
        path
        for family in families
        for path in pairs(f"<results>/scores/{{dataset}}/{{model}}/{family}.parquet", places.get(family, DATASETS))
    ]


def formats(name, *suffixes):
    """One table in several formats."""
    return [f"<results>/tables/{name}.{suffix}" for suffix in suffixes or ("csv", "md", "tex")]


# At the start of a line Snakemake takes `report` for its directive.
shown = report


def figure_files(notebook):
    """What a notebook draws, for the report, with labels."""
    return [
        shown(
            f"<results>/figures/clam_figure{number:02}.png",
            caption="../report/figure.rst",
            category="CLAM",
            subcategory="Figures",
            labels={"figure": str(number)},
        )
        for number in CLAM_NOTEBOOKS[notebook]
    ]


def beside(notebook, suffix):
    """The other files of these figures."""
    return [f"<results>/figures/clam_figure{number:02}.{suffix}" for number in CLAM_NOTEBOOKS[notebook]]


# The nearest to the output: where attributes matter most.
ABLATED_LAYERS = list(layers_of("cub200_2011", "vgg16", CLAM)[: config["clam"]["ablation_layers"]])

CLAM_TABLES = [
    *[path for number in (1, 2, 3, 4) for path in formats(f"clam_table{number}")],
    *[path for name in ("claims", "comparisons", "controls") for path in formats(f"clam_{name}", "csv", "md")],
    *(formats("clam_attributes", "csv", "md") if PARTED else []),
    *(formats("clam_ablation", "csv", "md") if PARTED and config["clam"]["ablation"] else []),
    *(
        formats("clam_ablation_explainers", "csv", "md")
        if PARTED and any(config["clam"]["ablation_explainers"].values())
        else []
    ),
]
CLAM_FIGURES = [
    f"<results>/figures/clam_figure{number:02}.{suffix}"
    for numbers in CLAM_NOTEBOOKS.values()
    for number in numbers
    for suffix in ("png", "pdf")
]

COST_MODELS = config["engine"]["cost"]["models"]
ENGINE_TABLES = [
    *formats("conservation", "csv"),
    *formats("conservation_summary", "csv"),
    *formats("cost", "csv", "md"),
]
ENGINE_FIGURES = [
    path
    for suffix in ("png", "pdf", "json")
    for path in pairs(f"<results>/figures/gallery_{{dataset}}_{{model}}.{suffix}")
]
