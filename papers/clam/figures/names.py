"""What CLAM's figures show, and how: its methods by catalogue id, with the paper's labels, colours and markers."""

from __future__ import annotations

from pathlib import Path

from relmap.catalogue.methods import Method
from relmap.catalogue.papers import printed_labels
from relmap.catalogue.rows import label

from papers.clam.methods import CLAM_ARM, clam_methods

PAPER = Path(__file__).parents[1]

LRP_METHODS = tuple(method.wraps for method in clam_methods(CLAM_ARM))
OTHER_METHODS = (
    "input_x_gradient",
    "deconvnet",
    "saliency",
    "guided_backprop",
    "grad_cam",
    "excitation_backprop",
)

# The paper's green, blue and red for LRP, CLRP and SGLRP, in shades from Okabe and Ito's palette, which readers
# with a colour vision deficiency tell apart; markers repeat the distinction for print in grey.
COLOURS = dict(
    zip(
        (*LRP_METHODS, *OTHER_METHODS),
        ("#009E73", "#0072B2", "#D55E00", "#7F7F7F", "#CC79A7", "#A6761D", "#56B4E9", "#111111", "#E69F00"),
        strict=True,
    )
)
MARKERS = dict(zip((*LRP_METHODS, *OTHER_METHODS), "os^x+vDP*", strict=True))


def method_name(method: str, lines: bool = False) -> str:
    """The label of a method as the paper prints it; with ``lines`` broken for a narrow column head."""
    row = _row(method)
    name = printed_labels(PAPER).get(method, row.label if row else label(method))
    return name.replace("+CLAM", "\n+CLAM").replace("-BP", "\nBP").replace(" ", "\n") if lines else name


def refined(method: str, arm: str = CLAM_ARM) -> str:
    """The method that refines another by CLA-layers."""
    return next(row.id for row in clam_methods(arm) if row.wraps == method)


def base_method(method: str) -> str:
    """The method that a method with CLAM refines; of others, itself."""
    row = _row(method)
    return row.wraps if row else method


def _row(method: str) -> Method | None:
    """The row of a method with CLAM, of whatever arm; of others, none."""
    arm = method.partition("_clam_")[2] or CLAM_ARM
    return next((row for row in clam_methods(arm) if row.id == method), None)
