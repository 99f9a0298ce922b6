"""CLAM beside the method that it refines, and beside its own control with untrained CLA-layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from relmap.catalogue.rows import rank
from relmap.evidence.statistics import RESAMPLES, sign_flip_test
from relmap.evidence.tables import by_cell, images_of, interval_of, paired_differences, values_of

from papers.clam.methods import CLAM_ARM, UNTRAINED_ARM, clam_methods


def controls(
    scores: pd.DataFrame,
    bases: Sequence[str] = tuple(method.wraps for method in clam_methods(CLAM_ARM)),
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """CLAM beside the method that it refines and beside the control with untrained CLA-layers.

    Args:
        scores: per-pair values as :func:`image_scores` gives them.
        bases: methods refined.
        confidence: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of resampling and tests.

    Returns:
        One row per dataset, model, metric and method (base, base_clam, base_clam_untrained): ``reproduced``,
        ``ci_low``, ``ci_high``, ``n_images``; paired mean differences ``minus_base`` and ``minus_untrained`` (this
        method minus that one), with the p-values of the sign-flip test, NaN for a method against itself.

    """
    values = by_cell(scores)
    rows = []
    for dataset, model, metric in sorted({(cell[0], cell[1], cell[3]) for cell in values}, key=lambda key: rank(*key)):
        for base in bases:
            refined = ({row.wraps: row.id for row in clam_methods(arm)}[base] for arm in (CLAM_ARM, UNTRAINED_ARM))
            arms = (base, *refined)
            if any((dataset, model, arm, metric) not in values for arm in arms):
                continue  # no CLA-layers there
            found = {arm: values_of(values, (dataset, model, arm, metric), "clam_controls") for arm in arms}
            for arm in arms:
                interval = interval_of(found[arm], confidence, resamples, seed)
                row = {"dataset": dataset, "model": model, "method": arm, "metric": metric}
                row |= {"reproduced": interval.mean, "ci_low": interval.low, "ci_high": interval.high}
                row |= {"n_images": interval.n}
                for name, other in (("base", base), ("untrained", arms[2])):
                    differences = paired_differences(found[arm], found[other])
                    same = arm == other
                    row[f"minus_{name}"] = np.nan if same else float(differences.mean())
                    row[f"p_{name}"] = (
                        np.nan
                        if same
                        else sign_flip_test(differences.to_numpy(), seed=seed, images=images_of(differences))
                    )
                rows.append(row)
    return pd.DataFrame(rows)
