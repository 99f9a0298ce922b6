"""
What CLAM's rules ask of the config and of the plan. No rules here.
"""

from papers.clam.cla.layers import select_layers
from papers.clam.methods import CLAM_ARM, UNTRAINED_ARM, clam_methods

ARMS = list(config["clam"]["arms"])
CLAM_PAPER = next(paper for paper in PAPERS if paper.id == "clam")


def arm_pairs(arm):
    """Data sets and models that an arm's methods are made for."""
    ids = {method.id for method in clam_methods(arm)}
    return [pair for pair in PAIRS if ids <= set(PLAN.methods.get(pair, ()))]


def layers_of(dataset, model, arm):
    """Layers with a CLA-layer, from the output to the input; the untrained control has those of `clam`."""
    places = config["clam"]["arms"][CLAM_ARM if arm == UNTRAINED_ARM else arm]
    return select_layers(model, places[dataset][model])


def trainings_of_arm(wildcards):
    """How many trainings of an arm differ in their seed."""
    return config["clam"]["trainings"] if wildcards.arm == CLAM_ARM else 1


def all_layers(wildcards):
    """Names of an arm's layers, from the output to the input."""
    return list(layers_of(wildcards.dataset, wildcards.model, wildcards.arm))


def untrained_layers(wildcards):
    """Names of the control's layers."""
    return list(layers_of(wildcards.dataset, wildcards.model, UNTRAINED_ARM))


def settings_on(layers):
    """What training and refining depend on; settings of other models' layers are left out."""
    settings = {
        key: value
        for key, value in config["clam"].items()
        if key not in ("arms", "related") and not key.startswith("ablation")
    }
    return {**settings, "layers": {name: values for name, values in settings["layers"].items() if name in layers}}


def clam_settings(wildcards):
    """CLAM's settings on an arm's layers (without the wildcard, on those of `clam`)."""
    return settings_on(layers_of(wildcards.dataset, wildcards.model, wildcards.get("arm", CLAM_ARM)))


def artifacts_of_arm(arm):
    """What the methods of an arm need: files, and settings, by data set and model."""

    def files(dataset, model):
        return [f"<results>/clam/{dataset}/{model}/{arm}/layers"]

    return files, lambda dataset, model: settings_on(layers_of(dataset, model, arm))


ARTIFACTS.update({arm: artifacts_of_arm(arm) for arm in (*ARMS, UNTRAINED_ARM)})

# Where the truth is known: data sets that are rendered with parts, by which their classes differ.
PARTED = [name for name in sources("render") if name == "cub200_2011"]
PARTED_PAIRS = [pair for pair in arm_pairs(CLAM_ARM) if pair[0] in PARTED]
# The ablations look at the first of them.
ABLATED = PARTED_PAIRS[:1]
ABLATED_MODELS = [model for dataset, model in PARTED_PAIRS if [dataset] == [pair[0] for pair in ABLATED]]
# The nearest to the output: where attributes matter most.
ABLATED_LAYERS = [
    layer for pair in ABLATED for layer in layers_of(*pair, CLAM_ARM)[: config["clam"]["ablation_layers"]]
]
EXTRA_TABLES["clam"] = [
    *(formats("clam_controls", "csv", "md") if arm_pairs(CLAM_ARM) else []),
    *(formats("clam_attributes", "csv", "md") if PARTED_PAIRS else []),
]
COMPUTED_TABLES["clam"] = [
    *(["clam_ablation"] if ABLATED and config["clam"]["ablation"] else []),
    *(
        ["clam_ablation_explainers"]
        if any(config["clam"]["ablation_explainers"].get(model) for model in ABLATED_MODELS)
        else []
    ),
]
