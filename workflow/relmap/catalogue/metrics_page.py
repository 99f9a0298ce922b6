"""``docs/metrics.md``: every metric, its numbers, its definition as its file has it, and what fools it.

python -m relmap.catalogue.metrics_page > docs/metrics.md
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from relmap.catalogue.metrics import METRICS, Column, Metric

FOLDER = Path(__file__).parents[1] / "metrics"
HEAD = """\
# Metrics

What each metric of the catalogue measures, in the words and equations of its file, and what fools it. Written by
`python -m relmap.catalogue.metrics_page`. What the controls score in a run (constant, random, a centre blob, edges, the
map of an untrained network), and how many methods they beat, is in its `metric_trust.csv`
([leaderboard.md](leaderboard.md)).
"""
FOOLED = {
    "pointing": (
        "A blob in the centre, where objects are in the centre. At all of a map's energy it is the share of "
        "its positive pixels in the box: a constant map has the box's share."
    ),
    "lerf": (
        "A map that keeps the centre. Of equal values the first in raster order go first, so a map that is 0 "
        "on the background is judged by that order there."
    ),
    "segmentation": (
        "A map of large smooth blobs: the threshold, mean plus standard deviation, then cuts an object's size."
    ),
    "pointing_game": ("A centre blob; where one object is large almost anything hits. Look at the difficult pairs."),
    "positive_ratio": "A map of a single pixel has the best one.",
    "outside_inside": "A map that is bright inside by its position alone: a centre blob.",
    "average_precision": "A centre blob. A constant map has a soft average precision of 1/2.",
    "grid_pointing": "Hardly anything that does not look at the class: chance is one over the number of cells.",
    "insertion": "A centre blob, whose pixels form a sharp disc. The network's accuracy on sharp pictures bounds it.",
    "cascade": "A random map changes with every draw, and so has the best one.",
    "gae": (
        "A constant map scores 0. Few mosaics tell little: its spread over draws stands in the table of variation."
    ),
    "road": "A centre blob. Chance is what the network says of pictures without content, not 0.",
    "local_lipschitz": "A constant map is the most stable of all, and has 0.",
    "focus": "A map without signs of class has 1/2. The network's errors on mosaics are counted against the map.",
    "relevance_mass": "A centre blob; a constant map has the box's share.",
    "relevance_mass_masks": "A centre blob; a constant map has the object's share.",
    "operations": "Nothing: it is counted, not timed.",
    "deletion_insertion": "A centre blob inserts fast. Read the two together: a map may win one and lose the other.",
    "deletion_insertion_black": (
        "The rule of ties: of a map that is constant on most of the picture the whole score may be that "
        "rule's. Both rules stand beside each other."
    ),
    "energy_pointing": "A centre blob. A constant map points nowhere, and has 0.",
    "density": "A map of few bright pixels: its mean is small, and the density large.",
    "minimal_pairs": (
        "Chance stands beside each number; an edge detector finds the edges that move with the part, too."
    ),
    "average_drop": (
        "A constant map masks nothing and has the best drop, 0. Any broad map stands near it; only the increase, which "
        "a constant map has not, speaks against it."
    ),
    "adcc": (
        "A constant map has 0. A blob in the centre that a method always gives is coherent and not complex: what is "
        "left is its drop."
    ),
    "sensitivity_n": (
        "A constant map has 0. Large sets of pixels taken out at random leave a picture that no network has seen; maps "
        "of the right total, such as Input x Gradient's, do well whatever they show."
    ),
    "efficient_mprt": (
        "A map that is smooth for the trained network and noise for the random one, whatever it shows; one of the "
        "picture alone, such as its edges, has 0. What chance is nobody knows."
    ),
    "accuracy": "It is the network's, not a map's.",
}
"""What scores well without knowing anything, metric by metric."""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for metric in METRICS.values() for line in _section(metric))])


def _section(metric: Metric) -> Iterator[str]:
    yield f"## {metric.label}\n"
    yield from ("| number | id | direction | unit | from |", "|---|---|---|---|---|")
    yield from (_row(column) for column in metric.columns)
    yield ""
    words = [f"`{metric.id}`"]
    words += [f"needs {', '.join(metric.needs)}"] if metric.needs else []
    words += [f"drawn at random: {metric.drawn}"] if metric.drawn else []
    words += [f"settings `evaluation.{key}`" for key in metric.settings]
    yield "; ".join(words) + ".\n"
    yield definition(metric) + "\n"
    yield f"**What fools it.** {FOOLED[metric.id]}\n"


def _row(column: Column) -> str:
    direction = "higher is better" if column.higher_is_better else "lower is better"
    unit = column.unit or ("" if column.chance is None else f"chance {column.chance:g}")
    return f"| {column.label} | `{column.id}` | {direction} | {unit} | {column.citation} |"


def definition(metric: Metric) -> str:
    """The words at the head of the file that scores it, as Markdown; nothing is imported."""
    module = str(metric.score).split(":")[0]
    text = ast.get_docstring(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))) or ""
    text = text.replace("``", "`")
    text = re.sub(r"\.\. math::[ \n]+((?:.+\n?)+?)(?=\n\n|\n*\Z)", _block, text + "\n")
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":(?:func|mod|class):`~?([^`]+)`", r"`\1`", text)
    return text.strip()


def _block(found: re.Match[str]) -> str:
    lines = [line.strip() for line in found[1].strip().splitlines()]
    return "\n".join(["```math", *lines, "```"])


if __name__ == "__main__":
    print(page(), end="")
