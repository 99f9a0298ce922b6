"""What AE adds to a run: the arms of Table 2, the gammas of Figure 8, and the grids of GridPG as a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relmap.catalogue.datasets import DataSet
from relmap.catalogue.methods import BOUNDS, FEATURE_MAP, Method
from relmap.catalogue.metrics import BOXES
from relmap.errors import InputError

FULL = "C+A+U+Psi"
ARMS = ("C", "C+A", "C+U", "C+Psi", "A+U", "C+A+U", FULL)
ARM_GAMMA = 2.0


def arm_id(terms: str) -> str:
    """Id of the method with some terms of Eq. 13, written as in Table 2: ``C+Psi``."""
    return f"attribution_equilibrium_{terms.lower().replace('+', '_')}"


def _arm(terms: str) -> Method:
    return Method(
        arm_id(terms),
        f"AE, {terms}",
        f"Nam and Lee, Attribution Equilibrium, Table 2: {terms} of Eq. 13, gamma {ARM_GAMMA:g}",
        "equilibrium:AttributionEquilibrium",
        {"gamma": ARM_GAMMA, "terms": terms},
        (FEATURE_MAP, BOUNDS),
        contrastive=True,
        variant_of="attribution_equilibrium",
    )


def _at_gamma(gamma: float) -> Method:
    return Method(
        f"attribution_equilibrium_gamma_{gamma:g}".replace(".", "_"),
        f"AE, gamma {gamma:g}",
        f"Nam and Lee, Attribution Equilibrium, Figure 8: gamma {gamma:g}",
        "equilibrium:AttributionEquilibrium",
        {"gamma": gamma},
        (FEATURE_MAP, BOUNDS),
        contrastive=True,
        variant_of="attribution_equilibrium",
    )


_BETWEEN = (1.25, 1.5, 1.75)

METHODS = [*map(_arm, ARMS), *map(_at_gamma, _BETWEEN)]

# One id is one map: both ends of Figure 8's sweep have ids of their own already.
GAMMA_SWEEP: dict[float, str] = {
    1.0: "attribution_equilibrium",
    **{gamma: _at_gamma(gamma).id for gamma in _BETWEEN},
    ARM_GAMMA: arm_id(FULL),
}

# What Figure 6 shows on the left and on the right.
WATERMARK_METHODS = ("attribution_equilibrium", "grad_cam", "lrp_epsilon_plus_box", "random")
EDGE_METHODS = (
    "grad_cam",
    "lrp_epsilon_plus_box",
    "contrastive_excitation_backprop",
    "clrp_two_passes",
    "agf",
    "relevance_cam",
    "rsp",
    "attribution_equilibrium",
    "random",
)
# Of Figure 9, AE first: its positive ratio is what the others are thresholded to.
GRID_METHODS = ("attribution_equilibrium", "grad_cam", "guided_backprop", "integrated_gradients")
SCATTERED_METHODS = ("attribution_equilibrium", "rap", "lrp_epsilon", "random")

GRIDS = "imagenet_grids"

DATASETS = [
    DataSet(
        GRIDS,
        "ImageNet grids",
        "Rao et al. 2022: grids of confidently classified images of distinct classes",
        "grids.py:read_grids",
        has=(BOXES,),
        classified_by="imagenet",
        derived=True,
    ),
]


def check(config: Mapping[str, Any]) -> None:
    """Refuse a network on the grids that sees another size than theirs.

    Raises:
        InputError: with the key and the cure.
    """
    grids, models = config["ae"]["grids"], config["models"]
    slid, tile = (models.get(name) for name in ("vgg16_sliding", grids["models"][0]))
    if not slid or not tile:
        return  # nothing looks at grids
    side = grids["n"] * tile["input_size"]
    if (slid["input_size"], slid["resize"]) != (side, side):
        raise InputError(
            f"config: `models.vgg16_sliding` sees {slid['input_size']} pixels of {slid['resize']}, but a grid has "
            f"{grids['n']} x {tile['input_size']} (`models.{grids['models'][0]}.input_size`); set both to {side}"
        )
