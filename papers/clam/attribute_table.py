"""The evaluation of attributes as a table: per model, explainer and layer, beside chance and untrained layers."""

from __future__ import annotations

import pandas as pd
from relmap.evidence.statistics import bootstrap_mean, sign_flip_test

SCORES = ("coverage", "specificity", "hit")
UNTRAINED = "_untrained"


def attribute_table(scores: pd.DataFrame, confidence: float, resamples: int, seed: int) -> pd.DataFrame:
    """One row per dataset, model, method, layer (and all layers) and score.

    Args:
        scores: rows of ``score_layers`` with ``image_id``, ``dataset`` and ``model``.

    Returns:
        columns ``dataset, model, method, layer, score, trained, chance, untrained, lift`` (trained minus chance, mean
        over images) with its interval and paired p-value, ``gain`` (trained minus untrained) and its p-value.
    """
    keys = ["dataset", "model", "method"]
    per_image = [*keys, "image_id"]
    over_layers = scores.groupby(per_image, sort=False).mean(numeric_only=True).reset_index().assign(layer="all")
    scores = pd.concat([over_layers, scores], ignore_index=True)
    control = scores["method"].str.endswith(UNTRAINED)
    trained = scores[~control].set_index([*per_image, "layer"])
    untrained = scores[control].assign(method=lambda frame: frame["method"].str.removesuffix(UNTRAINED))
    untrained = untrained.set_index([*per_image, "layer"]).reindex(trained.index)
    rows = []
    for group, frame in trained.groupby([*keys, "layer"], sort=False):
        other = untrained.loc[frame.index]
        for score in SCORES:
            lift = (frame[score] - frame[f"{score}_chance"]).dropna()
            gain = (frame[score] - other[score]).dropna()
            interval = bootstrap_mean(lift.to_numpy(), confidence, resamples, seed)
            rows.append(
                {
                    **dict(zip([*keys, "layer"], group, strict=True)),
                    "score": score,
                    "trained": frame[score].mean(),
                    "chance": frame[f"{score}_chance"].mean(),
                    "untrained": other[score].mean(),
                    "lift": interval.mean,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "p_lift": sign_flip_test(lift.to_numpy(), seed=seed),
                    "gain": gain.mean(),
                    "p_gain": sign_flip_test(gain.to_numpy(), seed=seed),
                    "n_images": interval.n,
                }
            )
    return pd.DataFrame(rows)
