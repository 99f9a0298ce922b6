r"""Which methods of a table cannot be told from the best of their column: Wilcoxon's signed-rank test (1945), paired.

Let d_i be the difference between the best method and another on image i. Zeros are left out, the absolute differences
are ranked, ties get their average rank, and

.. math:: W = \min\Big(\sum_{d_i > 0} r_i,\ \sum_{d_i < 0} r_i\Big)

is compared with its distribution when the signs are exchangeable: two-sided, exact for few images without ties,
otherwise by its normal approximation, as ``scipy.stats.wilcoxon`` does (``zero_method="wilcox"``, ``method="auto"``).
It asks about the differences' pseudo-median, not about the mean that the table prints; claims are decided by a test of
the mean (``statistics.sign_flip_test``). This one stands beside papers that star their cells by it.

The unit is the image (or the mosaic that stands at it): differences of several classes of an image are averaged. The
best method is chosen by the same values, so the tests are optimistic; Holm's correction over a column's comparisons
stands beside each p.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from relmap.catalogue.papers import PRINTED
from relmap.catalogue.rows import Rows
from relmap.errors import InputError
from relmap.evidence.statistics import holm
from relmap.evidence.values import Values, by_cell, has_values, images_of

COLUMNS = (
    "table",
    "dataset",
    "model",
    "metric",
    "select",
    "method",
    "label",
    "value",
    "best",
    "p",
    "p_holm",
    "star",
    "star_holm",
    "published_star",
    "n_images",
)
_PLACE = ["dataset", "model", "metric", "select"]


def signed_rank_test(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test.

    Args:
        differences: (N,), one an image; NaN is left out.

    Returns:
        The p-value; 1.0 where all differences are zero or none is left.
    """
    differences = np.asarray(differences, dtype=np.float64)
    known = differences[~np.isnan(differences) & (differences != 0)]
    return float(wilcoxon(known, zero_method="wilcox", alternative="two-sided").pvalue) if len(known) else 1.0


def against_the_best(values: Mapping[str, pd.Series], higher_is_better: bool, level: float) -> pd.DataFrame:
    """Every method of a column against the best.

    Args:
        values: method -> its values, indexed by image id and target. Only pairs of which all methods have one count.
        higher_is_better: which is the best.
        level: of the test.

    Returns:
        A row a method, in the given order: method, value (mean), best, p and p_holm (empty for the best), star and
        star_holm (it is the best or cannot be told from it; nobody has one where the best can be told from all), and
        n_images.
    """
    joint = pd.DataFrame(dict(values)).dropna()
    means = joint.mean()
    # The first of equals: their difference has p = 1 unless single images differ.
    best = (means if higher_is_better else -means).idxmax() if len(joint) else None
    images = images_of(joint) if len(joint) else np.empty(0, dtype=object)
    others = [method for method in joint if method != best]
    p = [signed_rank_test((joint[best] - joint[method]).groupby(images).mean()) for method in others if len(joint)]
    tested = pd.DataFrame({"p": p, "p_holm": holm(np.array(p))}, index=others[: len(p)], dtype=float)
    found = tested.reindex(list(joint.columns))
    for star, tried in (("star", "p"), ("star_holm", "p_holm")):
        alike = found[tried] >= level
        found[star] = alike | (alike.any() & (found.index == best))
    return found.assign(
        method=found.index, value=means, best=found.index == best, n_images=len(np.unique(images))
    ).reset_index(drop=True)


def significance(
    printed: Mapping[int, pd.DataFrame],
    columns: Sequence[str],
    level: float,
    scores: pd.DataFrame,
    known: Rows | None = None,
) -> pd.DataFrame:
    """The tests behind the stars of some tables.

    Args:
        printed: number of a table -> its rows as :func:`relmap.catalogue.papers.published` gives them.
        columns: ids of the published numbers to test.
        level: of the tests.
        scores: per-pair values as :func:`relmap.evidence.tables.image_scores` gives them.
        known: the rows of the run; the catalogue's by default.

    Raises:
        InputError: a model stands for several trainings: what is tested here are values of one network.

    Returns:
        The columns of ``COLUMNS``: of every data set, network and number of a table a row for each printed method that
        the run has values of; none where it has fewer than two.
    """
    known = known or Rows()
    parts = []
    values: dict[str, Values] = {}
    for number, table in printed.items():
        chosen = table[table["metric"].isin(columns)].drop_duplicates([*PRINTED, "select"])
        for place, rows in chosen.groupby(_PLACE, sort=False):
            dataset, model, metric, select = place
            if len(known.trainings(model)) > 1:
                raise InputError(
                    f"table {number}: {model} stands for {len(known.trainings(model))} trainings; `significance` tests "
                    "values of one network; leave the table out there, and say it as a claim"
                )
            if select not in values:
                values[select] = by_cell(scores, select)
            cells = {method: (dataset, model, method, metric) for method in dict.fromkeys(rows["method"])}
            scored = {m: values[select][cell] for m, cell in cells.items() if has_values(values[select], cell)}
            if len(scored) < 2:
                continue
            first = rows.drop_duplicates("method").set_index("method")
            found = against_the_best(scored, first["higher_is_better"].iloc[0] != "false", level)
            found["label"] = found["method"].map(first["label"])
            starred = first["emphasis"].map(lambda text: "star" in text.split("+"))
            found["published_star"] = found["method"].map(starred)
            parts.append(found.assign(table=number, **dict(zip(_PLACE, place, strict=True))))
    empty = pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)] if parts else empty
