"""CLAM beside the method that it refines, and beside its own control with untrained CLA-layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from relmap.catalogue.rows import rank
from relmap.evidence.statistics import RESAMPLES, sign_flip_test
from relmap.evidence.values import by_cell, images_of, interval_of, paired_differences, values_of

from papers.clam.methods import CLAM_ARM, UNTRAINED_ARM, clam_methods, one_pass_methods


def families() -> list[tuple[str, ...]]:
    """What stands together: a method, the same refined, and refined by untrained layers; of one pass the first two."""
    trained, untrained = ({row.wraps: row.id for row in clam_methods(arm)} for arm in (CLAM_ARM, UNTRAINED_ARM))
    return [
        *((base, trained[base], untrained[base]) for base in trained),
        *((row.wraps, row.id) for row in one_pass_methods()),
    ]


def controls(scores: pd.DataFrame, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """CLAM beside the method that it refines and beside the control with untrained CLA-layers.

    Args:
        scores: per-pair values as :func:`image_scores` gives them.
        confidence: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of resampling and tests.

    Returns:
        One row per dataset, model, metric and method of each of ``families``: ``reproduced``, ``ci_low``, ``ci_high``,
        ``n_images``; paired mean differences ``minus_base`` and ``minus_untrained`` (this method minus that one), with
        the p-values of the sign-flip test, NaN for a method against itself, and where no untrained layers are.
    """
    values = by_cell(scores)
    rows = []
    for dataset, model, metric in sorted({(cell[0], cell[1], cell[3]) for cell in values}, key=lambda key: rank(*key)):
        for family in families():
            if any((dataset, model, method, metric) not in values for method in family):
                continue  # no CLA-layers there
            found = {method: values_of(values, (dataset, model, method, metric), "clam_controls") for method in family}
            for method in family:
                interval = interval_of(found[method], confidence, resamples, seed)
                row = {"dataset": dataset, "model": model, "method": method, "metric": metric}
                row |= {"reproduced": interval.mean, "ci_low": interval.low, "ci_high": interval.high}
                row |= {"n_images": interval.n}
                for name, other in (("base", family[0]), ("untrained", family[2] if len(family) > 2 else method)):
                    if method == other:
                        row |= {f"minus_{name}": np.nan, f"p_{name}": np.nan}
                        continue
                    differences = paired_differences(found[method], found[other])
                    p = sign_flip_test(differences.to_numpy(), seed=seed, images=images_of(differences))
                    row |= {f"minus_{name}": float(differences.mean()), f"p_{name}": p}
                rows.append(row)
    return pd.DataFrame(rows)
