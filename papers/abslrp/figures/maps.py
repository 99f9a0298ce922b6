"""absLRP's maps beside their images (Figures 5, 6, 12, 13 and 15), also the best and the worst (11 and 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.figures.results import readable
from relmap.figures.sheet import Sheet, SheetRow, page_of
from relmap.figures.style import signed as with_sign

from papers.abslrp.figures.colours import NOTE, positive
from papers.abslrp.figures.names import method_name
from papers.abslrp.shown import ABSLRP

Example = tuple[str, np.ndarray, np.ndarray]
"""Words, the picture, and its map."""
_BESIDE = 3  # examples in a row


def maps_figure(parts: Mapping[str, Sequence[Example]]) -> Figure:
    """Pictures and maps in turn, three of each in a row; parts one below the other.

    Args:
        parts: data set and network -> examples, whose words stand under their picture.
    """
    if not parts:
        raise InputError("figure: no data set and network has maps to show; run the rule that makes them")
    sheets = [
        Sheet(
            _rows(examples, fill(name, 12) if len(parts) > 1 else ""),
            ["Input", method_name(ABSLRP)] * _BESIDE,
            f"Under images: the class and its probability. {NOTE}" if number == len(parts) else "",
            label_width=0.8 if len(parts) > 1 else 0.1,
            largest=1.14,
            photographs=range(0, 2 * _BESIDE, 2),
        )
        for number, (name, examples) in enumerate(parts.items(), start=1)
    ]
    return page_of(*sheets)[0]


def _rows(examples: Sequence[Example], name: str) -> list[SheetRow]:
    rows = []
    for start in range(0, len(examples), _BESIDE):
        some = examples[start : start + _BESIDE]
        cells = [cell for _, picture, values in some for cell in (picture, positive(values))]
        words = [word for said, _, _ in some for word in (said, "")]
        rows.append(SheetRow("" if start else name, cells, words))
    return rows


def extremes_figure(arrays: Mapping[str, np.ndarray]) -> Figure:
    """The images of the highest scores above, those of the lowest below, each over its map and its score.

    Args:
        arrays: of ``explain_extremes``.
    """
    count, pictures, maps = len(arrays["rank"]) // 2, arrays["picture"], arrays["map"]
    rows = []
    for name, some in (("highest", range(count)), ("lowest", range(count, 2 * count))):
        classes = [
            f"{readable(str(arrays['explained'][one]))}{'' if arrays['right'][one] else ' (wrong)'}" for one in some
        ]
        scores = [
            f"{arrays['gae_total'][one]:.3f}\n(LC {arrays['gae_lc'][one]:.2f}, "
            f"C {with_sign(arrays['gae_contrastiveness_signed'][one], 2)})"
            for one in some
        ]
        rows.append(SheetRow(name, [pictures[one] for one in some], [fill(words, 22) for words in classes]))
        rows.append(SheetRow("", [positive(maps[one]) for one in some], scores))
    titles = [""] * count
    note = (
        f"Of {int(arrays['scored'])} images, one a mosaic, by their total score; of equal totals, such as 0, by C, "
        "which is signed here and counts 0 below 0.\nUnder images: the predicted class, which is explained. Maps: "
        f"positive parts, as they are scored.\n{NOTE}"
    )
    return page_of(Sheet(rows, titles, note, label_width=0.5, largest=1.25, photographs=()))[0]
