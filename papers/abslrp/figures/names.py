"""What absLRP's figures call its methods."""

from __future__ import annotations

from pathlib import Path

from relmap.catalogue.papers import printed_labels
from relmap.catalogue.rows import label

PAPER = Path(__file__).parents[1]


def method_name(method: str) -> str:
    """The label of a method as the paper prints it; of others, the catalogue's."""
    return printed_labels(PAPER).get(method, label(method))
