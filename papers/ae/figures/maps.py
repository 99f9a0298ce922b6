"""Maps side by side: methods (1, 4) and networks (5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from relmap.figures.sheet import Sheet, SheetRow, method_map, page_of

from papers.ae.figures.names import method_name

Example = tuple[str, np.ndarray, Mapping[str, np.ndarray]]
"""Words at the left, the picture, and maps by column."""


def map_rows(examples: Sequence[Example], columns: Sequence[str]) -> list[SheetRow]:
    """A row an example: its picture, and its map in each column that it has one for."""
    return [
        SheetRow(
            fill(label, 16) if "\n" not in label else label,
            [
                picture,
                *(method_map(name, maps[name]) if name in maps else None for name in columns),
            ],
        )
        for label, picture, maps in examples
    ]


def methods_figure(examples: Sequence[Example], methods: Sequence[str]) -> Figure:
    """Figures 1 and 4: a row a pair of image and class, a column a method."""
    titles = ["Input", *(method_name(method).replace(" ", "\n") for method in methods)]
    return page_of(Sheet(map_rows(examples, methods), titles))[0]


def networks_figure(examples: Sequence[Example], networks: Sequence[str], names: Sequence[str]) -> Figure:
    """Figure 5: a row an image, a column a network, all maps by AE; pictures as the first network sees them."""
    return page_of(Sheet(map_rows(examples, networks), ["Input", *names]))[0]
