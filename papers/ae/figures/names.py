"""What AE's figures call its methods, and how they draw them."""

from __future__ import annotations

from pathlib import Path

from relmap.catalogue.papers import printed_labels
from relmap.catalogue.rows import label

PAPER = Path(__file__).parents[1]

AE = "attribution_equilibrium"
# Okabe and Ito's colours, which readers with a colour vision deficiency tell apart; markers repeat the distinction.
_COLOURS = ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#A6761D", "#CC79A7", "#7F7F7F", "#111111")
_MARKERS = "osv^x+DP*"


def method_name(method: str) -> str:
    """The label of a method as the paper prints it; of others, the catalogue's."""
    return printed_labels(PAPER).get(method, label(method))


def table_methods() -> tuple[str, ...]:
    """The methods of Table 1, AE last."""
    return tuple(printed_labels(PAPER))


def look(method: str, among: tuple[str, ...]) -> dict[str, str]:
    """Colour and marker of a method's line; AE has the same in every figure."""
    others = [one for one in among if one != AE]
    place = 0 if method == AE else 1 + others.index(method) % (len(_COLOURS) - 1)
    return {"color": _COLOURS[place], "marker": _MARKERS[place]}
