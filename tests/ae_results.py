"""A small results folder of AE: made-up pictures, maps and scores, in the layout of a run, for its notebooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from relmap.data.manifest import build_manifest, write_manifest
from relmap.evidence.maps import write_maps

from papers.ae.figures.curves import CASCADE
from papers.ae.figures.names import AE, table_methods
from papers.ae.rows import EDGE_METHODS, GAMMA_SWEEP, GRID_METHODS, SCATTERED_METHODS, WATERMARK_METHODS

NAMES = ("cat", "dog", "person", "train")
SIDE = 32
LAYERS = ("features.27", "features.1")


def make_place(
    results: Path,
    dataset: str,
    model: str,
    labels: Sequence[Sequence[int]],
    methods: Sequence[str],
    fit: str,
    seed: int,
) -> pd.DataFrame:
    """Pictures, manifest, card, targets and maps; the targets come back."""
    random = np.random.default_rng(seed)
    root, rows, pairs, sizes = results / "data" / dataset, [], [], []
    root.mkdir(parents=True, exist_ok=True)
    for number, own in enumerate(labels):
        width, height = (SIDE, 2 * SIDE) if fit == "aspect" and number % 2 else (SIDE, SIDE)
        pixels = np.kron(random.integers(40, 220, (height // 8, width // 8, 3)), np.ones((8, 8, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number}.png")
        row = {"image_id": f"i{number}", "path": f"{number}.png", "split": "test", "labels": sorted(own)}
        boxes = {"boxes": [[0, 0, 8, 8]] * len(own), "box_labels": sorted(own), "box_difficult": [False] * len(own)}
        rows.append({**row, **boxes, "width": width, "height": height})
        pairs += [(f"i{number}", label) for label in sorted(own)]
        sizes += [(height, width)] * len(own)
    manifest = build_manifest(dataset, root, rows, NAMES, require_training=False, workers=1)
    write_manifest(manifest.frame, results / "manifests" / f"{dataset}.parquet", manifest.info)
    sides = {"resize": SIDE, "crop": SIDE, "mean": [0.5] * 3, "std": [0.25] * 3, "fit": fit}
    path = results / "models" / dataset / f"{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"preprocessing": sides}))
    frame = pd.DataFrame(pairs, columns=["image_id", "target"]).assign(present=True, predicted=True, counted=True)
    frame = frame.assign(difficult=frame["target"] % 2 == 1, correct=True, probability=random.random(len(pairs)))
    frame = frame.assign(top=frame["target"], top_probability=0.9)
    path = results / "targets" / dataset / f"{model}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
    for method in methods:
        maps = np.zeros((len(pairs), max(h for h, _ in sizes), SIDE), dtype=np.float32)
        for one, (height, width) in zip(maps, sizes, strict=True):
            one[:height, :width] = np.kron(random.standard_normal((height // 4, width // 4)), np.ones((4, 4)))
        store = results / "maps" / dataset / model / f"{method}.zarr"
        images, targets = frame["image_id"].tolist(), frame["target"].to_numpy()
        write_maps(store, maps, images, targets, {"method": method}, sizes=np.array(sizes))
    return frame


def _scores(results: Path, dataset: str, model: str, metric: str, parts: Sequence[pd.DataFrame]) -> None:
    path = results / "scores" / dataset / model / f"{metric}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts, ignore_index=True).to_parquet(path)


def _rows(pairs: pd.DataFrame, method: str, metric: str, level: float, values: np.ndarray) -> pd.DataFrame:
    return pairs[["image_id", "target"]].assign(method=method, metric=metric, level=level, value=values)


def _examples(results: Path, seed: int) -> None:
    """Tables and arrays of the paper's own rules."""
    random = np.random.default_rng(seed)
    folder = results / "ae" / "imagenet" / "vgg16"
    folder.mkdir(parents=True, exist_ok=True)
    (results / "tables").mkdir(exist_ok=True)

    def maps(count: int, *more: int) -> np.ndarray:
        return random.standard_normal((count, *more, SIDE, SIDE)).astype(np.float32)

    def pictures(count: int) -> np.ndarray:
        return random.integers(0, 255, (count, SIDE, SIDE, 3), dtype=np.uint8)

    said = np.array(["cat", "dog", "cat", "dog"])
    share = {"share": 0.3, "ci_low": 0.2, "ci_high": 0.4, "area": 0.1, "n_images": 40}
    turned = {"turned": 0.5, "turned_without_mark": 0.0, "right_without_mark": 0.8}
    networks = ("marked", "original")
    table = [
        {"network": network, "explained": which, "method": method, **turned, **share}
        for network in networks
        for method in WATERMARK_METHODS
        for which in ("mark's class", "true class")
    ]
    pd.DataFrame(table).to_csv(results / "tables/ae_watermark.csv", index=False)
    np.savez(
        folder / "watermark.npz",
        image_id=np.array(list("abcd")),
        picture=pictures(4),
        region=np.ones((4, SIDE, SIDE), dtype=bool),
        true=said,
        mark=np.array("train"),
        **{f"says/{network}": said for network in networks},
        **{f"maps/{network}/{method}": maps(4, 2) for network in networks for method in WATERMARK_METHODS},
    )
    table = [
        {"method": method, "region": region, "known": 0.6, **share}
        for method in EDGE_METHODS
        for region in ("edges", "outside the object")
    ]
    pd.DataFrame(table).to_csv(results / "tables/ae_edges.csv", index=False)
    kept = {"image_id": np.array(list("abc")), "picture": pictures(3), "true": said[:3]}
    np.savez(folder / "edges.npz", **kept, **{f"maps/{method}": maps(3) for method in EDGE_METHODS})
    accuracies = {f"{name}_{key}": 0.5 for name in ("removed", "inserted") for key in ("accuracy", "low", "high")}
    table = [{"method": m, "share": 0.08, "border": 1.0, **accuracies, "n_images": 40} for m in SCATTERED_METHODS]
    pd.DataFrame(table).to_csv(results / "tables/ae_scattered.csv", index=False)
    arrays = {"image_id": np.array(["a"]), "picture": pictures(1), "true": said[:1]}
    for method in SCATTERED_METHODS:
        arrays |= {f"maps/{method}": maps(1), f"chosen/{method}": maps(1) > 1}
        for name in ("removed", "inserted"):
            arrays |= {f"{name}/{method}": pictures(1), f"says_{name}/{method}": said[1:2]}
    np.savez(folder / "scattered.npz", **arrays)
    arrays = {"layers": np.array(LAYERS), "image_id": np.array(["a"]), "picture": pictures(1)}
    for layer in LAYERS:
        arrays[f"{layer}/features"] = np.abs(maps(1))
        for variant in ("with", "without"):
            arrays |= {f"{layer}/{variant}/sum": maps(1), f"{layer}/{variant}/channels": maps(1, 2)}
    np.savez(folder / "channels.npz", **arrays)


def make_ae_results(results: Path) -> Path:
    """Write the whole folder, and return it."""
    random = np.random.default_rng(0)
    several = [[0], [1], [0, 2], [1, 3], [2], [0, 1, 2], [3], [2, 3]]
    pairs = make_place(results, "voc2007", "torchray_vgg16", several, table_methods(), "aspect", 1)
    sweep = [
        _rows(pairs, method, "pointing_game", np.nan, random.integers(0, 2, len(pairs)))
        for method in GAMMA_SWEEP.values()
    ]
    _scores(results, "voc2007", "torchray_vgg16", "pointing_game", sweep)
    cascade = [
        _rows(pairs, method, metric, float(level), 1 - level / 4 + 0.05 * random.standard_normal(len(pairs)))
        for method in (AE, "grad_cam")
        for metric in CASCADE
        for level in (1, 2, 3)
    ]
    _scores(results, "voc2007", "torchray_vgg16", "cascade", cascade)
    for number, network in enumerate(("vgg16", "resnet50", "alexnet")):
        methods = table_methods() if number < 2 else (AE, "grad_cam")
        pairs = make_place(results, "imagenet", network, [[0], [1], [2], [3], [0]], [AE], "crop", 2 + number)
        parts = [_rows(pairs, methods[0], "insertion_clean", np.nan, np.ones(len(pairs)))]
        parts += [
            _rows(pairs, method, "insertion_correct", float(level), random.random(len(pairs)) < level / 20)
            for method in methods
            for level in range(21)
        ]
        _scores(results, "imagenet", network, "insertion", [part.astype({"value": float}) for part in parts])
    grids = make_place(results, "imagenet_grids", "vgg16_sliding", [[0, 1, 2, 3]] * 6, GRID_METHODS, "crop", 9)
    parts = [
        grids[["image_id", "target"]].assign(method=method, kept=kept, value=random.random(len(grids)))
        for method in GRID_METHODS
        for kept in (("full",) if method == AE else ("full", "thresholded"))
    ]
    folder = results / "ae" / "imagenet_grids" / "vgg16_sliding"
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(parts, ignore_index=True).to_parquet(folder / "thresholded.parquet")
    _examples(results, 5)
    return results
