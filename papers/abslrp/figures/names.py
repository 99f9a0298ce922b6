"""What absLRP's figures call its methods."""

from __future__ import annotations

import functools
from pathlib import Path

from relmap.catalogue.papers import read_paper
from relmap.catalogue.rows import label


@functools.cache
def printed_labels() -> dict[str, str]:
    """Catalogue id -> label in the paper's Table 1, in its order; no ablation's."""
    entries = read_paper(Path(__file__).parents[1]).tables[1]["methods"].values()
    ids = [entry["id"] if isinstance(entry["id"], str) else entry["id"][""] for entry in entries]
    return dict(zip(ids, (entry["label"] for entry in entries), strict=True))


def method_name(method: str) -> str:
    """The label of a method as the paper prints it; of others, the catalogue's."""
    return printed_labels().get(method, label(method))
