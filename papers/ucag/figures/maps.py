"""Maps without UCAG above maps with it (Figures 1, 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.figures.sheet import GAIN, NOTHING, Sheet, SheetRow, page_of, shown_map

from papers.ucag.figures.names import guided, method_name

Example = tuple[str, np.ndarray, Mapping[str, np.ndarray]]
"""Words at the left, the picture, and maps by column, each also under ``guided`` of the column."""


NOTE = (
    f"Red: for the class; blue: against it; over its largest magnitude, times {GAIN:g}. Purple: maps of one sign, over "
    "their largest value."
)


def methods_figure(parts: Mapping[str, Sequence[Example]], methods: Sequence[str]) -> Figure:
    """Figures 1 and 4: two rows an example, the methods' own maps and those with UCAG; a column a method.

    Args:
        parts: network -> its examples, one part below the other.
        methods: ids.
    """
    parts = {name: examples for name, examples in parts.items() if examples}
    if not parts:
        raise InputError("figure: no network has maps to show; run the rule that makes them")
    titles = ["Input", *(method_name(method).replace(" ", "\n") for method in methods)]
    sheets = [
        Sheet(
            [row for example in examples for row in _rows(example, methods, name if len(parts) > 1 else "")],
            titles,
            NOTE if place == len(parts) else "",
        )
        for place, (name, examples) in enumerate(parts.items(), start=1)
    ]
    return page_of(*sheets)[0]


def _rows(example: Example, methods: Sequence[str], name: str) -> list[SheetRow]:
    words, picture, maps = example

    # A method's maps, with UCAG and without, have one scale.
    signed = {}
    for method in methods:
        own = [maps[name] for name in (method, guided(method)) if name in maps]
        signed |= dict.fromkeys((method, guided(method)), any(values.min(initial=0) < 0 for values in own))

    def row(said: str, first: np.ndarray, keys: Sequence[str]) -> SheetRow:
        return SheetRow(said, [first, *(shown_map(maps[key], signed[key]) if key in maps else None for key in keys)])

    said = fill(words, 16) if "\n" not in words else words
    return [
        row(f"{fill(name, 16)}\n{said}" if name else said, picture, methods),
        row("with UCAG", NOTHING, [guided(method) for method in methods]),
    ]


def networks_figure(examples: Sequence[Example], networks: Mapping[str, str], method: str) -> Figure:
    """Figure 5: two rows an image, one method's maps without and with UCAG; a column a network.

    Args:
        examples: words, the picture, and maps under ``<network>`` and ``guided(<network>)``.
        networks: id -> name.
        method: of which the maps are.
    """
    if not examples:
        raise InputError("figure: there are no examples to show; are there maps and targets of any?")
    rows = [row for example in examples for row in _rows(example, list(networks), "")]
    return page_of(Sheet(rows, [f"{method_name(method)} on", *networks.values()], NOTE))[0]
