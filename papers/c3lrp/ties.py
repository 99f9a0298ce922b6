r"""What the rule of ties decides: ID scores in strict order and with ties at once, against the bound.

Let p(x) be the network's probability of the label on the whole picture and p(b) that on black, both steps of every
curve. Where a picture's probability rises from p(b) to p(x), no map has more than

.. math:: \text{bound} = p(x) - p(b),

insertion p(x) everywhere, deletion p(b) everywhere. With ties at once a map of one value everywhere has both after no
pixel, and so the bound but for the first step's half trapezoid: it says nothing and cannot be beaten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

RULES = {"strict": "", "at_once": "_at_once"}


def bounds(rows: pd.DataFrame) -> pd.Series:
    """p(x) - p(b) of each pair of one network, indexed by image id and target.

    Args:
        rows: score rows of the metric, of any methods: the ends of the curve are the pictures', the same for all.
    """
    curve = rows[rows["metric"] == "insertion_black_probability"]
    first = curve[curve["method"] == curve["method"].iloc[0]].set_index(["image_id", "target"])
    ends = [first.loc[first["level"] == level, "value"] for level in (first["level"].max(), first["level"].min())]
    return ends[0] - ends[1]


def tied_share(maps: np.ndarray) -> np.ndarray:
    """(N,) share of the pixels of maps (N, H, W) that have the value of another pixel of their map.

    Values are compared as stored: those that a contour has cut to 0 are equal, those of a smooth map seldom.
    """
    ordered = np.sort(maps.reshape(len(maps), -1), axis=1)
    equal = ordered[:, 1:] == ordered[:, :-1]
    edge = np.zeros((len(maps), 1), dtype=bool)
    return (np.concatenate([equal, edge], 1) | np.concatenate([edge, equal], 1)).mean(axis=1)


def ties_table(
    scores: Sequence[pd.DataFrame], tied: Mapping[str, float], methods: Sequence[str], labels: Mapping[str, str]
) -> pd.DataFrame:
    """A row a method: ID score by both rules, their difference, and shares of the bound.

    Args:
        scores: score rows of the metric, one frame a training.
        tied: method -> mean share of tied pixels.
        methods: in the table's order; those without scores are left out.
        labels: method -> its name.

    Returns:
        Columns method, label, tied, strict, at_once, difference, strict_of_bound, at_once_of_bound, n_trainings; means
        over trainings of means over pairs. The last row is the bound's.
    """
    found = [{**_means(rows), "bound": float(bounds(rows).mean())} for rows in scores]
    bound = float(np.mean([one["bound"] for one in found]))
    lines = []
    for method in methods:
        own = [one[method] for one in found if method in one]
        if own:
            strict, at_once = np.mean(own, axis=0)
            lines.append((method, labels[method], tied.get(method, np.nan), strict, at_once, len(own)))
    lines.append(("bound", "Bound", np.nan, bound, bound, len(found)))
    table = pd.DataFrame(lines, columns=["method", "label", "tied", "strict", "at_once", "n_trainings"])
    table.insert(5, "difference", table["at_once"] - table["strict"])
    for rule in RULES:
        table.insert(len(table.columns) - 1, f"{rule}_of_bound", table[rule] / bound)
    return table


def _means(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Method -> mean ID score by each rule, of one training."""
    parts = [rows[rows["metric"] == f"id_score{suffix}"].groupby("method")["value"].mean() for suffix in RULES.values()]
    return {method: tuple(part[method] for part in parts) for method in parts[0].index}
