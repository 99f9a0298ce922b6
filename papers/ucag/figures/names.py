"""What UCAG's figures call its methods."""

from __future__ import annotations

from pathlib import Path

from relmap.catalogue.papers import printed_labels
from relmap.catalogue.rows import label

PAPER = Path(__file__).parents[1]

GRAD_CAM = "grad_cam"
UCAG_GRAD_CAM = "ucag_grad_cam"
# What the paper's Figure 4 shows of the methods that its tables have on one data set and network.
SHOWN = (GRAD_CAM, "grad_cam_pp", "wgrad_cam", "full_grad_centred", "rap_logit_init", "rsp", "agf", "sglrp_agf")


def method_name(method: str) -> str:
    """The label of a method as the paper prints it; of others, the catalogue's."""
    return printed_labels(PAPER).get(method, label(method))


def guided(method: str) -> str:
    """The id of UCAG around a method."""
    return f"ucag_{method}"
