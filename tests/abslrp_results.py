"""A small results folder of absLRP: made-up pictures, maps and arrays, in the layout of a run, for its notebooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from ae_results import SIDE, make_place

from papers.abslrp.figures.patches import METHODS
from papers.abslrp.shown import ABSLRP, CLASS_METHODS, PATCH_MODELS, RESNET, TRACED_METHODS, VGG, VIT

STEPS = 4


def make_abslrp_results(results: Path) -> Path:
    """Write the whole folder, and return it."""
    random = np.random.default_rng(0)
    folder, several = results / "abslrp" / "imagenet", [[0], [1], [0, 2], [1, 3], [2], [0, 1, 2], [3], [2, 3]]
    for number, model in enumerate((VGG, VIT, RESNET)):
        make_place(results, "imagenet", model, [[0], [1], [2], [3], [0]], [ABSLRP], "crop", number)
        make_place(results, "voc2012", model, several, [ABSLRP], "crop", 10 + number)

    def maps(*shape: int) -> np.ndarray:
        return random.standard_normal((*shape, SIDE, SIDE)).astype(np.float32)

    def pictures(*shape: int) -> np.ndarray:
        return random.integers(0, 255, (*shape, SIDE, SIDE, 3), dtype=np.uint8)

    table = []
    for model, methods in CLASS_METHODS.items():
        (folder / model).mkdir(parents=True)
        row = {"share": 0.8, "ci_low": 0.7, "ci_high": 0.9, "n_images": 9, "known": 0.5}
        table += [{"model": model, "method": method, **row} for method in (*methods, "random")]
        np.savez(
            folder / model / "classes.npz",
            picture=pictures(2),
            known=np.array([True, False]),
            classes=np.array([["cat", "dog"], ["person", "train"]]),
            left=np.array(["a", "b"]),
            right=np.array(["c", "d"]),
            **{f"maps/{method}": maps(2, 2) for method in methods},
            **{f"shares/{method}": random.random((2, 2)) for method in methods},
        )
        np.savez(
            folder / model / "extremes.npz",
            image_id=np.array(list("abcd")),
            explained=np.array(["cat", "dog", "cat", "train"]),
            right=np.array([True, True, False, True]),
            picture=pictures(4),
            map=np.abs(maps(4)),
            scored=np.array(9),
            rank=np.array([1, 2, 8, 9]),
            gae_lc=random.random(4),
            gae_contrastiveness_signed=random.standard_normal(4),
            gae_total=random.random(4),
        )
    (results / "tables").mkdir()
    pd.DataFrame(table).to_csv(results / "tables/abslrp_classes.csv", index=False)
    arrays = {"masked": np.linspace(0.1, 0.9, STEPS), "outputs": random.random((2, STEPS + 1)) + 1}
    arrays |= {
        "changes": random.random(STEPS),
        "impacts": np.abs(maps(2)),
        "combined": maps(),
        "signs": np.sign(maps()),
    }
    for method in TRACED_METHODS:
        arrays |= {f"similarities/{method}": random.random((2, STEPS)), f"on_mosaic/{method}": np.abs(maps())}
        arrays |= {f"{part}/{method}": np.array(0.5) for part in ("robustness", "faithfulness", "contrastiveness")}
    np.savez(
        folder / VGG / "trace.npz",
        image_id=np.array(list("abcd")),
        quadrant=np.array(2),
        explained=np.array("cat"),
        pictures=pictures(4),
        mosaic=pictures(),
        **arrays,
    )
    arrays = {"image_id": np.array(list("ab")), "true": np.array(["cat", "dog"])}
    for model in PATCH_MODELS:
        arrays |= {f"patch/{model}": np.array(8), f"picture/{model}": pictures(2)}
        arrays |= {f"maps/{model}/{method}": maps(2) for method in METHODS}
    np.savez(folder / "patches.npz", **arrays)
    return results
