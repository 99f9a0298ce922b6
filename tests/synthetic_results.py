"""A small results folder of drawn pictures and made-up numbers, in the layout of a run, for figures and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from relmap.catalogue.papers import published, read_paper
from relmap.catalogue.rows import load_rows
from relmap.data.manifest import build_manifest, read_manifest, write_manifest
from relmap.evidence.maps import write_maps

from papers.clam.figures.comparison import columns
from papers.clam.methods import UNTRAINED_ARM, clam_methods

SIDE = 64
CLASSES = ("001.Crested_Reed_Warbler", "002.Plain_Reed_Warbler", "003.Long_tailed_Tern")
PARTS = ("body", "head", "tail")
LAYERS = ("features.28", "features.21", "features.14", "features.7")
PUBLISHED = Path(__file__).resolve().parents[1] / "papers" / "clam"
ROWS = load_rows([PUBLISHED / "rows.py"])
METHODS = [
    *dict.fromkeys(published(read_paper(PUBLISHED), 1, ROWS)["method"]),
    *(row.id for row in clam_methods(UNTRAINED_ARM)),
]


def _bird(rng: np.random.Generator, label: int) -> tuple[Image.Image, Image.Image, list[float]]:
    """A picture, its part map and its box."""
    ground = np.kron(rng.integers(60, 200, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    picture, parts = Image.fromarray(ground), Image.new("L", (SIDE, SIDE))
    size = rng.uniform(9, 18)
    x, y = rng.uniform(size * 1.5, SIDE - size * 1.5, 2)
    shapes = (
        (1, (x - size, y - size / 2, x + size, y + size / 2)),
        (2, (x + size * 0.6, y - size * 0.9, x + size * 1.3, y - size * 0.2)),
        (3, (x - size * 1.5, y - size * 0.2, x - size * 0.7, y + size * 0.2)),
    )
    for part, extent in shapes:
        shade = tuple(int(value) for value in np.roll((200, 120 - 30 * part, 40 * part), label))
        ImageDraw.Draw(picture).ellipse(extent, fill=shade)
        ImageDraw.Draw(parts).ellipse(extent, fill=part)
    box = [x - size * 1.5, y - size * 0.9, x + size * 1.3, y + size / 2]
    return picture, parts, [float(np.clip(edge, 0, SIDE)) for edge in box]


def _smooth(rng: np.random.Generator, count: int) -> np.ndarray:
    noise = rng.standard_normal((count, 16, 16))
    return np.kron(noise, np.ones((4, 4))).astype(np.float32)


def make_dataset(results: Path, dataset: str, images: int, seed: int) -> None:
    """Write pictures, part maps, card and manifest."""
    rng = np.random.default_rng(seed)
    root = results / "data" / dataset
    (root / "images").mkdir(parents=True)
    rows = []
    for index in range(2 * images):
        label = index % len(CLASSES)
        picture, parts, box = _bird(rng, label)
        picture.save(root / "images" / f"{index:03}.jpg", quality=90)
        row = {
            "image_id": f"{dataset}_{index:03}",
            "path": f"images/{index:03}.jpg",
            "split": "train" if index < images else "test",
            "labels": [label],
            "boxes": [box],
            "width": SIDE,
            "height": SIDE,
        }
        if dataset == "cub200_2011":
            parts.save(root / "images" / f"{index:03}.png")
            row["part_map_path"] = f"images/{index:03}.png"
        rows.append(row)
    manifest = build_manifest(
        dataset, root, rows, CLASSES, part_names=PARTS if dataset == "cub200_2011" else (), workers=1
    )
    write_manifest(manifest.frame, results / "manifests" / f"{dataset}.parquet", manifest.info)
    card = {"dataset": dataset, "source": "render", "images": 2 * images, "classes": len(CLASSES), "seconds": 1.5}
    (results / "data" / f"{dataset}.json").write_text(json.dumps(card))


def make_scores(results: Path, dataset: str, model: str, seed: int, methods: Sequence[str] | None = None) -> None:
    """Write model card, targets, pointing scores, and maps of the test images: those of figures, or of some methods."""
    rng = np.random.default_rng(seed)
    manifest = read_manifest(results / "manifests" / f"{dataset}.parquet")
    test = manifest.rows("test")
    ids, labels = manifest.frame["image_id"].iloc[test].tolist(), manifest.single_labels(test)
    images, classes = len(ids), len(manifest.info.class_names)
    card = {"architecture": model, "classes": classes, "sha256": "cd" * 32, "input_size": SIDE, "width": 0.125}
    card["preprocessing"] = {"resize": SIDE, "crop": SIDE, "mean": [0.5] * 3, "std": [0.25] * 3}
    path = results / "models" / dataset / f"{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(card))
    top = np.where(np.arange(images) % 4 == 3, (labels + 1) % classes, labels)
    targets = pd.DataFrame({"image_id": ids, "target": labels, "present": True, "predicted": top == labels})
    targets = targets.assign(difficult=False, correct=top == labels, probability=np.where(top == labels, 0.8, 0.1))
    targets = targets.assign(top=top, top_probability=0.8)
    path = results / "targets" / dataset / f"{model}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    targets.to_parquet(path)
    levels = np.linspace(0.05, 1, 20)
    parts = []
    for number, method in enumerate(METHODS):
        values = 0.8 - 0.4 * levels + 0.01 * number + 0.08 * rng.standard_normal((images, 1))
        values = np.clip(values + 0.02 * rng.standard_normal((images, 20)), 0, 1)
        frame = pd.DataFrame({"image_id": np.repeat(ids, 20), "target": np.repeat(labels, 20)})
        frame = frame.assign(level=np.tile(levels, images), value=values.ravel())
        parts.append(frame.assign(method=method, metric="pointing"))
    path = results / "scores" / dataset / model / "pointing.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts, ignore_index=True).to_parquet(path)
    for method in columns() if methods is None else methods:
        path = results / "maps" / dataset / model / f"{method}.zarr"
        write_maps(path, _smooth(rng, images), ids, labels, {"method": method})


def make_examples(results: Path, dataset: str, model: str, seed: int) -> None:
    """Write attribute regions and related training images."""
    rng = np.random.default_rng(seed)
    manifest = read_manifest(results / "manifests" / f"{dataset}.parquet")
    ids = {split: manifest.frame["image_id"].iloc[manifest.rows(split)].to_numpy(str) for split in ("train", "test")}
    candidates, attributes, related = len(ids["test"]), 6, 3
    shape = (candidates, len(LAYERS), attributes)

    def boxes(*leading: int) -> np.ndarray:
        corner = rng.uniform(0, SIDE - 24, (*leading, 2))
        return np.concatenate([corner, corner + rng.uniform(10, 24, (*leading, 2))], axis=-1).astype(np.float32)

    sides = (4, 8, 16, 32)
    path = results / "clam" / dataset / model / "clam" / "examples.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        image_id=ids["test"],
        layers=np.array(LAYERS),
        regions=boxes(*shape),
        kept=rng.random(shape) < 0.6,
        related_id=rng.choice(ids["train"], (*shape, related)),
        related_box=boxes(*shape, related),
        related_distance=np.sort(rng.random((*shape, related)), axis=-1),
        **{
            f"relevance_{layer}": rng.standard_normal((candidates, side, side)).astype(np.float32)
            for layer, side in zip(LAYERS, sides, strict=True)
        },
    )


def make_tables(results: Path, seed: int) -> None:
    """Write the tables with made-up numbers: the four beside the published ones, and those that are ours."""
    rng = np.random.default_rng(seed)
    folder = results / "tables"
    folder.mkdir(parents=True)
    for number in (1, 2, 3, 4):
        frame = published(read_paper(PUBLISHED), number, ROWS).assign(role="published", missing="")
        value = (frame["value"].astype(float) + 0.05 * rng.standard_normal(len(frame))).clip(0, 1)
        frame["reproduced"], frame["ci_low"], frame["ci_high"] = value, value - 0.01, value + 0.01
        frame["n_images"], frame["n_pairs"] = 300, 300
        frame.to_csv(folder / f"clam_table{number}.csv", index=False)
    claims = [
        ("vgg_improves", "CLAM improves LRP, CLRP and SGLRP on VGG-16 <all data>", "supported", "holds"),
        ("sglrp_iou", "SGLRP+CLAM loses IoU", "supported", "fails"),
        ("best", "CLRP+CLAM is the best on VGG-16", "contradicted", "undecided"),
    ]
    frame = pd.DataFrame(claims, columns=["claim", "text", "published_verdict", "verdict"])
    frame = frame.assign(source="Section 4.3.1", evidence="2 of 3 comparisons hold, 0 are reversed", suspect=[0, 0, 2])
    p_values = {"p_holds": [0.0004, 1.0, 0.0078], "p_fails": [1.0, 0.00003, 0.6]}
    p_values |= {"holm_holds": [0.004, 1.0, 0.0624], "holm_fails": [1.0, 0.0003, 1.0]}
    frame.assign(**p_values).to_csv(folder / "clam_claims.csv", index=False)
    control = {"dataset": "cub200_2011", "model": "vgg16", "method": "lrp_clam", "metric": "mean_iou"}
    control |= {"reproduced": 0.31, "minus_base": -0.012, "p_base": 0.04, "n_images": 300}
    pd.DataFrame([control, {**control, "method": "lrp_clam_untrained", "minus_base": np.nan}]).to_csv(
        folder / "clam_controls.csv", index=False
    )
    pd.DataFrame([{"dataset": "cub200_2011", "model": "vgg16", "split": "test", "accuracy": 0.71}]).to_csv(
        folder / "accuracies.csv", index=False
    )


def make_records(results: Path) -> None:
    """Write config, provenance and benchmarks."""
    models = "models: {vgg16: {width: 0.125}, resnet50: {width: 0.125}}"
    datasets = "datasets: {cub200_2011: {source: render}, imagenet: {source: render}}"
    (results / "config.yaml").write_text(f"run: synthetic\n{datasets}\n{models}\n")
    machine = {"system": "Linux", "processor": "x86_64", "cores": 2, "gpus": []}
    provenance = {"versions": {"python": "3.11", "torch": "2.13.0"}, "source": {"commit": "c0ffee"}, "machine": machine}
    (results / "provenance.json").write_text(json.dumps(provenance))
    for path, seconds in (
        ("attribute/cub200_2011/vgg16/lrp", 12.5),
        ("attribute/imagenet/vgg16/lrp", "70"),
        ("x", "NA"),
    ):
        file = results / "benchmarks" / f"{path}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:12\t512.3\n")


def make_results(results: Path, images: int = 12) -> Path:
    """Write the whole folder but its figures, and return it."""
    for number, dataset in enumerate(("cub200_2011", "imagenet")):
        make_dataset(results, dataset, images, seed=number)
        for model in ("vgg16", "resnet50"):
            make_scores(results, dataset, model, seed=10 + number)
    make_examples(results, "cub200_2011", "vgg16", seed=20)
    make_tables(results, seed=30)
    make_records(results)
    return results
