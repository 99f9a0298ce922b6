"""What CLAM adds to a run: the methods of the config's own arms, and where arms are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relmap.catalogue.methods import CLAM_ARM, UNTRAINED_ARM, Method, clam_methods

Pair = tuple[str, str]


def methods(config: Mapping[str, Any]) -> list[Method]:
    """LRP, CLRP and SGLRP with the CLA-layers of each arm that only this config has."""
    return [method for arm in config["clam"]["arms"] if arm != CLAM_ARM for method in clam_methods(arm)]


def pairs(config: Mapping[str, Any], arm: str) -> list[Pair]:
    """Data sets and models that have an arm, of those that the config has; the untrained control is where `clam` is."""
    places = config["clam"]["arms"][CLAM_ARM if arm == UNTRAINED_ARM else arm]
    return [
        (dataset, model)
        for dataset, models in (places or {}).items()
        for model in models
        if config["datasets"].get(dataset) and config["models"].get(model)
    ]


def places(config: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Method -> where its CLA-layers are."""
    arms = [*config["clam"]["arms"], UNTRAINED_ARM]
    return {method.id: pairs(config, arm) for arm in arms for method in clam_methods(arm)}


def wanted(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every arm, and the untrained control, wherever they are: the paper's tables name only the arm `clam`."""
    return [(*pair, method) for method, where in places(config).items() for pair in where]
