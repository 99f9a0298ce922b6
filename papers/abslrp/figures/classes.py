"""Maps of pictures with two classes, a row a class, a column a method (Figures 7, 8 and 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from relmap.figures.results import readable
from relmap.figures.sheet import NOTHING, Sheet, SheetRow, page_of

from papers.abslrp.figures.colours import NOTE, positive
from papers.abslrp.figures.names import method_name

_SIDES = ("left half", "right half")


def classes_figure(arrays: Mapping[str, np.ndarray], table: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Pictures of two halves; a row for the class of the left one, and a row for that of the right one.

    Args:
        arrays: of ``explain_two_classes``.
        table: of ``tabulate_classes``, of this network.
        methods: columns.
    """
    means = table.set_index("method")
    rows = []
    for number, picture in enumerate(arrays["picture"]):
        for side, name in enumerate(_SIDES):
            label = f"{fill(readable(str(arrays['classes'][number, side])), 16)}\n({name})"
            maps = [positive(arrays[f"maps/{method}"][number, side]) for method in methods]
            words = [f"{arrays[f'shares/{method}'][number, side]:.2f}" for method in methods]
            rows.append(SheetRow(label, [NOTHING if side else picture, *maps], ["", *words]))
    titles = ["Input"]
    for method in methods:
        row = means.loc[method]
        name = fill(method_name(method), 14)
        titles.append(f"{name}\n{row['share']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]")
    first = table.iloc[0]
    note = (
        "Pictures: the middles of two images. Under maps: share of positive relevance in the class's half; in the "
        f"heads, its mean over {int(first['n_images'])} pictures, with its interval;\nmaps that ask for no class have "
        f".50. The network's two first classes are those of the halves in {first['known']:.0%} of the pictures.\n"
        f"{NOTE}"
    )
    return page_of(Sheet(rows, titles, note, label_width=0.85, largest=1.0))[0]
