"""A small results folder of C3-LRP: made-up pictures, maps and scores of two trainings, in the layout of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from ae_results import make_place

from papers.c3lrp.figures.read import BRANCH, COLUMNS

METHODS = [method for method in COLUMNS if method != BRANCH]


def make_c3lrp_results(results: Path) -> Path:
    """Write the folder and return it."""
    random = np.random.default_rng(0)
    for model, methods in (("c3_resnet50_1", METHODS), ("c3_resnet50_3", METHODS), ("abn_resnet50_0", [BRANCH])):
        pairs = make_place(results, "cub200_2011", model, [[k % 4] for k in range(8)], methods, "crop", 3)
        scored = pairs.iloc[:6][["image_id", "target"]]
        rows = [
            scored.assign(method=method, metric=metric, level=np.nan, value=random.random(len(scored)))
            for method in methods
            for metric in ("id_score", "id_score_at_once")
        ]
        path = results / "scores" / "cub200_2011" / model / "deletion_insertion_black.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.concat(rows, ignore_index=True).to_parquet(path)
    return results
