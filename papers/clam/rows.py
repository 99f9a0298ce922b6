"""What CLAM adds to a run.

Its methods, on its own arms and the config's; where arms are; what its settings obey; and the metrics of what its text
says and its tables do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relmap.catalogue.methods import ARTIFACTS, Method, unfold_and_conquer
from relmap.errors import InputError
from relmap.job.config import hint, load

from papers.clam.cla.layers import LAYER_SETS, candidate_layers, select_layers
from papers.clam.cla.settings import changed
from papers.clam.methods import CLAM_ARM, ONE_PASS, UNTRAINED_ARM, clam_methods, one_pass_methods
from papers.clam.metrics import OF_TEXT

# UCAG of refined maps is made where a config or another paper asks for it.
BY_UCAG = [unfold_and_conquer(method) for method in clam_methods(CLAM_ARM)]
# The paper's second arm of ResNet-50, which its text compares; known by name also to a config that leaves it out.
CASE1_ARM = "case1"
_OWN_ARMS = (CLAM_ARM, UNTRAINED_ARM, CASE1_ARM)


def _regions(suffix: str, label: str, arm: str, control: bool, places: str) -> Method:
    return Method(
        f"clrp_clam_regions{suffix}",
        f"Regions of CLRP+CLAM{label}",
        "CLAM, Section 4.2.2: where attributes look",
        "regions.py:AttributeRegions",
        {"explainer": "clrp", "places": places},
        (ARTIFACTS,),
        signed=False,
        arm=arm,
        control=control,
    )


# Figure 4 is of CLRP. The second has the same layers without training, the third their sizes at any place.
REGIONS = [
    _regions("", "", CLAM_ARM, False, "chosen"),
    _regions("_untrained", " (untrained)", UNTRAINED_ARM, True, "chosen"),
    _regions("_anywhere", " (anywhere)", CLAM_ARM, True, "anywhere"),
]
METHODS = [*(method for arm in _OWN_ARMS for method in clam_methods(arm)), *one_pass_methods(), *REGIONS, *BY_UCAG]
METRICS = OF_TEXT

RESERVED_ARMS = (UNTRAINED_ARM, "plain", "regions")
Pair = tuple[str, str]


def methods(config: Mapping[str, Any]) -> list[Method]:
    """LRP, CLRP and SGLRP with the CLA-layers of each arm that only this config has, and of further trainings."""
    further = [method for method in clam_methods(CLAM_ARM, config["clam"]["trainings"]) if method.training_of]
    arms = [arm for arm in config["clam"]["arms"] if arm not in _OWN_ARMS]
    return [*further, *(method for arm in arms for method in clam_methods(arm))]


def pairs(config: Mapping[str, Any], arm: str) -> list[Pair]:
    """Data sets and models that have an arm, of those that the config has; the untrained control is where `clam` is."""
    places = config["clam"]["arms"].get(CLAM_ARM if arm == UNTRAINED_ARM else arm)
    return [
        (dataset, model)
        for dataset, models in (places or {}).items()
        for model in models
        if config["datasets"].get(dataset) and config["models"].get(model)
    ]


def places(config: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Method -> where its CLA-layers are."""
    others = {method.id: pairs(config, method.arm or CLAM_ARM) for method in (*REGIONS, *BY_UCAG)}
    return {**_of_arms(config), **others}


def _of_arms(config: Mapping[str, Any]) -> dict[str, list[Pair]]:
    arms = dict.fromkeys((*_OWN_ARMS, *config["clam"]["arms"]))
    rows = [method for arm in arms if arm != CLAM_ARM for method in clam_methods(arm)]
    rows += [*clam_methods(CLAM_ARM, config["clam"]["trainings"]), *one_pass_methods()]
    return {method.id: pairs(config, method.arm) for method in rows}


def wanted(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every arm, its trainings, one pass and the untrained control: the paper's tables name only the arm `clam`."""
    one_pass = dict.fromkeys(ONE_PASS.values(), pairs(config, CLAM_ARM))
    return [(*pair, method) for method, where in {**_of_arms(config), **one_pass}.items() for pair in where]


def check(config: Mapping[str, Any]) -> None:
    """Refuse what the schema cannot: names of arms and layers, sizes that do not fit, variants that are no config.

    Raises:
        InputError: with the key and the cure.
    """
    _check_arms(config["clam"]["arms"])
    _check_layers(config["clam"]["layers"])
    _check_ablation(config)
    _check_patches(config["clam"])


def _check_arms(arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """No arm has a reserved name, and its layers are the model's."""
    for arm, per_dataset in arms.items():
        if arm in RESERVED_ARMS:
            raise InputError(f"config: `clam.arms.{arm}`: this name is reserved; choose another for the arm")
        for dataset, per_model in (per_dataset or {}).items():
            for model, selection in per_model.items():
                try:
                    select_layers(model, selection)
                except InputError as error:
                    raise InputError(f"config: `clam.arms.{arm}.{dataset}.{model}`: {error}") from error


def _check_layers(layers: Mapping[str, Any]) -> None:
    """Each is a layer of some architecture that relevance can be refined at."""
    known = [name for architecture in LAYER_SETS for name in candidate_layers(architecture)]
    for layer in layers:
        if layer not in known:
            raise InputError(f"config: `clam.layers.{layer}`: no model has this layer{hint(layer, known, before='; ')}")


def _check_ablation(config: Mapping[str, Any]) -> None:
    """The config with any variant's changes is valid too."""
    clam = config["clam"]
    for variant in clam["ablation"]:
        try:
            check(load({**config, "clam": {**changed(clam, variant["set"]), "ablation": []}}))
        except InputError as error:
            message = str(error).removeprefix("config: ")
            raise InputError(f"config: `clam.ablation`, variant `{variant['name']}`: {message}") from error


def _check_patches(clam: Mapping[str, Any]) -> None:
    """An attribute is smaller than its patch, for all layers together and for each by itself."""
    pairs = {"clam": clam, **{f"clam.layers.{name}": {**clam, **values} for name, values in clam["layers"].items()}}
    for where, values in pairs.items():
        patch, attribute = values["patch_size"], values["attribute_size"]
        if patch is not None and attribute is not None and patch <= attribute:
            raise InputError(
                f"config: `{where}`: patch_size {patch} is not larger than attribute_size {attribute}; an attribute "
                "slides inside its patch, so enlarge the patch or shrink the attribute"
            )
