"""The evaluation of attributes as a table: beside chance, and beside untrained layers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relmap.statistics import RESAMPLES, bootstrap_mean, sign_flip_test

SCORES = ("coverage", "specificity", "hit")
UNTRAINED_SUFFIX = "_untrained"


def attribute_table(
    rows: pd.DataFrame, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Means over images, with intervals and paired tests.

    Args:
        rows: one row per image, method and layer, with columns dataset, model, image_id, method, layer, and each of
            ``SCORES`` alone and with ``_chance``; methods end in ``_clam`` or ``_clam_untrained``.
        confidence: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of resampling and tests.

    Returns:
        One row per dataset, model, method and score (means over layers first): ``value``, ``ci_low``, ``ci_high``,
        ``n_images``, ``chance``; paired mean differences ``minus_chance`` and ``minus_untrained`` with the p-values
        ``p_chance`` and ``p_untrained`` of the sign-flip test (NaN for an untrained method against itself).
    """
    columns = [*SCORES, *(f"{score}_chance" for score in SCORES)]
    images = rows.groupby(["dataset", "model", "method", "image_id"], sort=True)[columns].mean()
    found = []
    for place, own in images.groupby(level=["dataset", "model", "method"], sort=True):
        dataset, model, method = place
        control = method if method.endswith(UNTRAINED_SUFFIX) else f"{method}{UNTRAINED_SUFFIX}"
        values, untrained = own.droplevel([0, 1, 2]), images.loc[(dataset, model, control)]
        for score in SCORES:
            interval = bootstrap_mean(values[score].to_numpy(), confidence, resamples, seed)
            row = {"dataset": dataset, "model": model, "method": method, "score": score, "value": interval.mean}
            row |= {"ci_low": interval.low, "ci_high": interval.high, "n_images": interval.n}
            row["chance"] = float(values[f"{score}_chance"].mean())
            for name, other in (("chance", values[f"{score}_chance"]), ("untrained", untrained[score])):
                differences = (values[score] - other).dropna().to_numpy()
                same = name == "untrained" and control == method
                row[f"minus_{name}"] = np.nan if same or not len(differences) else float(differences.mean())
                row[f"p_{name}"] = np.nan if same or not len(differences) else sign_flip_test(differences, seed=seed)
            found.append(row)
    return pd.DataFrame(found)
