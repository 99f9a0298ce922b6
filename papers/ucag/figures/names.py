"""What UCAG's figures call its methods."""

from __future__ import annotations

import functools
from pathlib import Path

from relmap.catalogue.papers import read_paper
from relmap.catalogue.rows import label

GRAD_CAM = "grad_cam"
UCAG_GRAD_CAM = "ucag_grad_cam"
# What the paper's Figure 4 shows of the methods that its tables have on one data set and network.
SHOWN = (GRAD_CAM, "grad_cam_pp", "wgrad_cam", "full_grad_centred", "rap_logit_init", "rsp", "agf", "sglrp_agf")


@functools.cache
def printed_labels() -> dict[str, str]:
    """Catalogue id -> label in the paper's tables, in their order."""
    paper = read_paper(Path(__file__).parents[1])
    return {entry["id"]: entry["label"] for entry in paper.tables[1]["methods"].values()}


def method_name(method: str) -> str:
    """The label of a method as the paper prints it; of others, the catalogue's."""
    return printed_labels().get(method, label(method))


def guided(method: str) -> str:
    """The id of UCAG around a method."""
    return f"ucag_{method.removesuffix('_centred')}" if method == "full_grad_centred" else f"ucag_{method}"
