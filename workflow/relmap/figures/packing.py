"""A few images of every data set under every method of a network, small, drawn by lot: the report's gallery.

``pack`` writes a folder: for each data set, network and image a strip of maps, ``<dataset>/<model>/<k>.png``, a tile a
method in the index's order, and the picture, ``<k>.jpg``; and ``index.json``, which says what they are.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from relmap.evidence.evaluation import open_stores, places_of
from relmap.figures.results import Setting
from relmap.figures.tiles import INDEX, outline_of_boxes, outline_of_mask, reduced_size, strip, tile
from relmap.job.files import atomic_path
from relmap.job.parquet import read_parquet

IMAGES = 8
"""Images of a data set and network at most."""
LIMIT = 6_000_000
"""Bytes of all strips and pictures at most: with many networks each has fewer images, but one."""
_PICTURE = 160  # pixels of the picture's longer side


@dataclass(frozen=True)
class Place:
    """A data set and network, and the methods that its stores hold."""

    dataset: str
    model: str
    methods: Sequence[str]


def draw(explained: Mapping[str, pd.DataFrame], count: int, seed: int) -> dict[str, pd.DataFrame]:
    """By lot, pairs of image and class for each network of a data set, before any map is looked at.

    One order holds for all networks, so that they show the same images: first the pairs that most of them explain,
    among these the classes in turn, in an order that the seed decides. Whether a network is right plays no part.

    Args:
        explained: network -> its pairs, columns image_id and target.
        count: of pairs at most.
        seed: of the order.

    Returns:
        network -> its rows, in their order.
    """
    keys = ["image_id", "target"]
    every = pd.concat([frame[keys] for frame in explained.values()])
    pairs = every.value_counts(sort=False).rename("networks").reset_index().sort_values(keys, ignore_index=True)
    shuffled = pairs.iloc[np.random.default_rng(seed).permutation(len(pairs))]
    shuffled = shuffled.assign(turn=shuffled.groupby("target").cumcount())
    order = shuffled.sort_values(["networks", "turn"], ascending=[False, True], kind="stable")[keys]
    return {model: order.merge(frame, on=keys).head(count) for model, frame in explained.items()}


def pack(results: str | os.PathLike, places: Iterable[Place], unsigned: Iterable[str], seed: int, out: Path) -> None:
    """Write the gallery's folder, whole or not at all.

    Args:
        results: the run's folder.
        places: what to show.
        unsigned: methods whose maps tell sizes only.
        seed: of the choice.
        out: the folder.

    Raises:
        InputError: a store, picture or table is absent, damaged, or does not fit the others.
    """
    results, unsigned = Path(results), set(unsigned)
    explained: dict[str, dict[str, pd.DataFrame]] = {}
    places = list(places)
    for place in places:
        targets = read_parquet(results / "targets" / place.dataset / f"{place.model}.parquet")
        explained.setdefault(place.dataset, {})[place.model] = targets
    chosen = {dataset: draw(of_models, IMAGES, seed) for dataset, of_models in explained.items()}
    made = [
        _examples(results, place, explained[place.dataset][place.model], chosen[place.dataset][place.model], unsigned)
        for place in places
    ]
    count = _rounds([[len(strip) + len(picture) for strip, picture, _ in examples] for examples in made], LIMIT)
    with atomic_path(out) as folder:
        for place, examples in zip(places, made, strict=True):
            (folder / place.dataset / place.model).mkdir(parents=True)
            for number, (strip_, picture, _) in enumerate(examples[:count]):
                (folder / place.dataset / place.model / f"{number}.png").write_bytes(strip_)
                (folder / place.dataset / place.model / f"{number}.jpg").write_bytes(picture)
        settings = [
            {
                "dataset": place.dataset,
                "model": place.model,
                "methods": list(place.methods),
                "examples": [words for *_, words in examples[:count]],
            }
            for place, examples in zip(places, made, strict=True)
        ]
        text = json.dumps({"seed": seed, "images": count, "settings": settings}, separators=(",", ":"))
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def _rounds(sizes: Sequence[Sequence[int]], limit: int) -> int:
    """How many images each place has, so that all are within the limit; at least one."""
    most = max(map(len, sizes), default=0)
    totals = np.cumsum(
        [sum(of_place[number] for of_place in sizes if number < len(of_place)) for number in range(most)]
    )
    return max(1, int((totals <= limit).sum()))


def _examples(
    results: Path, place: Place, targets: pd.DataFrame, chosen: pd.DataFrame, unsigned: set[str]
) -> list[tuple[bytes, bytes, dict[str, Any]]]:
    """Of each chosen pair of a place the strip, the picture, and what there is to say."""
    setting = Setting(results, place.dataset, place.model)
    folder = results / "maps" / place.dataset / place.model
    stores = open_stores({method: folder / f"{method}.zarr" for method in place.methods}, targets)
    images, classes = chosen["image_id"].tolist(), chosen["target"].to_numpy()
    tiles: list[list[np.ndarray]] = [[] for _ in images]
    totals: list[list[float]] = [[] for _ in images]
    for method, store in stores.items():
        at = places_of(store, images, classes)
        for number, (values, size) in enumerate(zip(store.at(at), store.sizes[at], strict=True)):
            own = values[: size[0], : size[1]]
            tiles[number].append(tile(own, method not in unsigned))
            totals[number].append(float(f"{own.sum(dtype=np.float64):.3g}"))
    found = []
    for row, own, sums in zip(chosen.to_dict("records"), tiles, totals, strict=True):
        picture = setting.picture(row["image_id"])
        outline, kind = _outline(setting, row["image_id"], row["target"], own[0].shape)
        words = {
            "image": row["image_id"],
            "explained": setting.class_of(row["target"]),
            "probability": round(float(row["probability"]), 3),
            "predicted": setting.class_of(row["top"]),
            "predicted_probability": round(float(row["top_probability"]), 3),
            "size": list(own[0].shape),
            "outline": outline,
            "outlined": kind,
            "totals": sums,
        }
        found.append((_png(strip(own)), _jpeg(picture), words))
    return found


def _outline(setting: Setting, image_id: str, target: int, size: tuple[int, int]) -> tuple[str, str]:
    """Where the class is, as an SVG path on a tile, and what the path is: mask, box, or nothing."""
    height, width = size
    mask = setting.mask_of(image_id, target)
    if mask is not None and mask.any():
        small = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
        return outline_of_mask(np.asarray(small) >= 0.5), "mask"
    boxes = setting.boxes_of(image_id, target)
    if not len(boxes):
        return "", ""
    seen = setting.picture(image_id).shape
    return outline_of_boxes(boxes * np.array([width / seen[1], height / seen[0]] * 2)), "box"


def _png(picture: Image.Image) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "PNG", optimize=True)
        return file.getvalue()


def _jpeg(picture: np.ndarray) -> bytes:
    height, width = reduced_size(*picture.shape[:2], _PICTURE)
    with io.BytesIO() as file:
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        small.save(file, "JPEG", quality=88)
        return file.getvalue()
