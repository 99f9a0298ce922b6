"""Pictures and explanations laid over them: Figures 1 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from relmap.figures.overlays import overlay
from relmap.figures.sheet import Sheet, SheetRow, page_of

NOTE = (
    "Positive relevance over its 99.5th percentile, purple where large, over the grey picture.\n"
    "Under each map its ID score in strict order | with ties at once."
)
Example = tuple[str, np.ndarray, Mapping[str, np.ndarray], Mapping[str, str]]
"""Words at the left, the picture, maps by column, and words under them."""


def maps_figure(examples: Sequence[Example], columns: Mapping[str, str]) -> Figure:
    """A row a picture: itself, and its map in each column laid over it.

    Args:
        examples: the rows.
        columns: column -> its title.
    """
    rows = [
        SheetRow(
            fill(label, 16),
            [picture, *(overlay(picture, maps[name], signed=False) if name in maps else None for name in columns)],
            ["", *(words.get(name, "") for name in columns)],
        )
        for label, picture, maps, words in examples
    ]
    smooth = range(len(columns) + 1)
    return page_of(Sheet(rows, ["Input", *columns.values()], NOTE, photographs=smooth))[0]


def id_words(scores: Mapping[str, float], scores_at_once: Mapping[str, float]) -> dict[str, str]:
    """Method -> what stands under its map."""
    return {name: f"{_plain(value)} | {_plain(scores_at_once[name])}" for name, value in scores.items()}


def _plain(value: float) -> str:
    """Two decimals, and no sign of a rounded zero."""
    return f"{round(value, 2) + 0.0:.2f}"
