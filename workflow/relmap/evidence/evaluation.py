"""Which images are evaluated, what the network says of them, and the tidy rows that scores are kept in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from relmap.data.manifest import Manifest
from relmap.errors import InputError
from relmap.evidence.maps import Maps, read_maps
from relmap.job.files import atomic_path

SCORE_COLUMNS = ("image_id", "method", "metric", "level", "value")


def evaluation_rows(manifest: Manifest, max_images: int | None, seed: int) -> np.ndarray:
    """Rows of the test images to evaluate, ascending: all, or ``max_images`` spread evenly over the classes.

    The first k rows drawn of a class are the same whatever ``max_images``, so that larger evaluations contain smaller.
    """
    rows = manifest.rows("test")
    if max_images is None or max_images >= len(rows):
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    labels = manifest.labels(shuffled)
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return np.sort(shuffled[np.lexsort((labels, rank))[:max_images]])


def prediction_frame(manifest: Manifest, rows: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """One row per image: image_id, label, predicted, probability (of the predicted class), correct.

    Args:
        manifest: the dataset.
        rows: positions of the images.
        probabilities: (N, classes).
    """
    labels, predicted = manifest.labels(rows), probabilities.argmax(axis=1)
    return pd.DataFrame(
        {
            "image_id": manifest.frame["image_id"].to_numpy()[rows],
            "label": labels,
            "predicted": predicted,
            "probability": probabilities.max(axis=1),
            "correct": labels == predicted,
        }
    )


def rows_of(manifest: Manifest, image_ids: Sequence[str]) -> np.ndarray:
    """Positions of images in a manifest.

    Raises:
        InputError: the manifest lacks one.
    """
    positions = pd.Index(manifest.frame["image_id"]).get_indexer(list(image_ids))
    if (positions < 0).any():
        culprit = image_ids[int(np.argmin(positions))]
        raise InputError(f"{manifest.info.dataset}: no image {culprit} in the manifest; remake the file that names it")
    return positions


def method_maps(stores: Mapping[str, str | os.PathLike]) -> Iterator[tuple[str, Maps]]:
    """Read one store after the other; all must hold the same images in the same order.

    Args:
        stores: method id -> store.

    Raises:
        InputError: a store is absent or holds other images.
    """
    expected: Sequence[str] | None = None
    for method, path in stores.items():
        maps = read_maps(path)
        if expected is not None and list(maps.image_ids) != list(expected):
            raise InputError(f"{path}: other images than in the other methods' stores; delete it and run again")
        expected = maps.image_ids
        yield method, maps


def tidy(
    image_ids: Sequence[str], method: str, metric: str, values: np.ndarray, levels: Sequence[float] | None = None
) -> pd.DataFrame:
    """Score rows of one method.

    Args:
        image_ids: N images.
        method: method id.
        metric: metric id.
        values: (N,) or (N, levels).
        levels: the second axis; none for one value per image.
    """
    values = np.asarray(values, dtype=np.float64).reshape(len(image_ids), -1)
    levels = [np.nan] if levels is None else list(levels)
    return pd.DataFrame(
        {
            "image_id": np.repeat(np.asarray(image_ids, dtype=object), len(levels)),
            "method": method,
            "metric": metric,
            "level": np.tile(np.asarray(levels, dtype=np.float64), len(image_ids)),
            "value": values.ravel(),
        },
        columns=list(SCORE_COLUMNS),
    )


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table, atomically."""
    with atomic_path(Path(path)) as temporary:
        frame.to_parquet(temporary, index=False)
