"""Which pairs of image and target are evaluated, what the network says of them, and the tidy rows of their scores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from relmap.data.difficult import pair_flags
from relmap.data.manifest import Manifest
from relmap.errors import InputError
from relmap.evidence.maps import Maps, MapStore, open_maps
from relmap.job.parquet import write_table

SCORE_COLUMNS = ("image_id", "target", "method", "metric", "level", "value")


def evaluation_rows(manifest: Manifest, max_images: int | None, seed: int) -> np.ndarray:
    """Rows of the test images to evaluate, ascending: all, or ``max_images`` spread evenly over the classes.

    The first k rows drawn of a class are the same whatever ``max_images``, so that larger evaluations contain smaller.

    Raises:
        InputError: there is no test image.
    """
    rows = manifest.rows("test")
    if not len(rows):
        raise InputError(f"{manifest.info.dataset}: has no test image to explain; correct its split, or leave it out")
    if max_images is None or max_images >= len(rows):
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    first = np.array([labels[0] if labels else -1 for labels in manifest.label_sets(shuffled)])
    return np.sort(shuffled[np.lexsort((first, manifest.rank_in_class(shuffled)))[:max_images]])


def target_frame(
    manifest: Manifest,
    rows: np.ndarray,
    probabilities: np.ndarray,
    targets: str = "label",
    multi_label: bool = False,
) -> pd.DataFrame:
    """What a run explains: one row per pair of image and target, with what metrics and tables select by.

    Args:
        manifest: the dataset.
        rows: positions of the N images.
        probabilities: (N, classes).
        targets: ``label``, all labels of an image and, of a multi-label network, the classes that it predicts; or
            ``predicted``, these alone; or ``surest``, the one that the network is surest of.
        multi_label: whether the classes of an image are independent. Then those with a probability of at least 1/2 are
            predicted, the surest where none has it (as AE's authors do); otherwise the surest alone.

    Returns:
        image_id, target, the flags of ``catalogue.papers.FLAGS``, correct (whether the top class is a label),
        probability of the target, top, the class that the network is surest of, and top_probability.

    Raises:
        InputError: another kind of targets, or no pair at all.
    """
    if targets not in ("label", "predicted", "surest"):
        raise InputError(f"targets {targets!r} are unknown; choose label, predicted or surest")
    found = []
    tops = probabilities.argmax(axis=1)
    for place, (row, labels) in enumerate(zip(rows, manifest.label_sets(rows), strict=True)):
        top = int(tops[place])
        predicted = (np.flatnonzero(probabilities[place] >= 0.5).tolist() if multi_label else []) or [top]
        shown = dict.fromkeys((*labels, *predicted) if multi_label else labels)
        asked = {"label": shown, "predicted": predicted, "surest": [top]}[targets]
        flags = pair_flags(manifest, int(row))
        for target in asked:
            counted, difficult = flags.get(target, (False, False))
            found.append(
                {
                    "image_id": manifest.frame["image_id"].iat[row],
                    "target": target,
                    "present": target in labels,
                    "predicted": target in predicted,
                    "counted": counted,
                    "difficult": difficult,
                    "correct": top in labels,
                    "probability": probabilities[place, target],
                    "top": top,
                    "top_probability": probabilities[place, top],
                }
            )
    if not found:
        raise InputError(
            f"{manifest.info.dataset}: none of its {len(rows)} test images has a class to explain; give them labels, "
            "or set its `target` to predicted or surest"
        )
    return pd.DataFrame(found)


def pairs_of_images(image_ids: Sequence[str]) -> list[np.ndarray]:
    """Places of pairs by image: for each number K of pairs that images have, (images, K), in the order of the pairs."""
    owners: dict[str, list[int]] = {}
    for place, image in enumerate(image_ids):
        owners.setdefault(image, []).append(place)
    counts = sorted({len(places) for places in owners.values()})
    return [np.array([places for places in owners.values() if len(places) == count]) for count in counts]


def ranges_of_images(image_ids: Sequence[str], pairs: int) -> list[slice]:
    """The pairs in order, about so many at a time; the pairs of an image, which come together, are never parted.

    Args:
        image_ids: the image of each pair.
        pairs: at least 1; a range has more only where a single image does.
    """
    starts = [place for place, image in enumerate(image_ids) if not place or image != image_ids[place - 1]]
    cuts = starts[:1]
    for start, end in zip(starts, [*starts, len(image_ids)][1:], strict=True):
        if end - cuts[-1] > pairs and start > cuts[-1]:
            cuts.append(start)
    return [slice(start, end) for start, end in zip(cuts, [*cuts, len(image_ids)][1:], strict=True)]


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


def open_stores(stores: Mapping[str, str | os.PathLike], pairs: pd.DataFrame) -> dict[str, MapStore]:
    """Open the stores of some methods; each must hold the pairs of image and target that the run explains, no others.

    Args:
        stores: method id -> store.
        pairs: a row a pair, with image_id and target.

    Raises:
        InputError: a store is absent, damaged, or holds other pairs, fewer, or in another order.
    """
    wanted = list(zip(pairs["image_id"], pairs["target"].tolist(), strict=True))
    opened = {method: open_maps(path) for method, path in stores.items()}
    for store in opened.values():
        if list(zip(store.image_ids, store.targets.tolist(), strict=True)) != wanted:
            raise InputError(
                f"{store.path}: {len(store)} maps, not those of the {len(wanted)} pairs of image and target that this "
                "run explains; delete it and its .json, and run again"
            )
    return opened


def places_of(maps: Maps | MapStore, image_ids: Sequence[str], targets: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where N pairs stand among the maps, (N,).

    Raises:
        InputError: one is not there.
    """
    wanted = pd.MultiIndex.from_arrays((image_ids, targets))
    places = maps.index.get_indexer(wanted)
    if (places < 0).any():
        image, target = wanted[int(np.argmin(places))]
        method = maps.attrs.get("method")
        raise InputError(f"maps of {method}: none of image {image} for target {target}; delete the store and run again")
    return places


def tidy(
    image_ids: Sequence[str],
    targets: Sequence[int] | np.ndarray,
    method: str,
    metric: str,
    values: np.ndarray,
    levels: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Score rows of one method. A metric may add columns that say how a value came about; tables pass over them.

    Args:
        image_ids: images of N pairs.
        targets: their targets.
        method: method id.
        metric: metric id.
        values: (N,) or (N, levels).
        levels: the second axis; none for one value per pair.
    """
    levels = [np.nan] if levels is None else list(levels)
    values = np.asarray(values, dtype=np.float64).reshape(len(image_ids), len(levels))
    return pd.DataFrame(
        {
            "image_id": np.repeat(np.asarray(image_ids, dtype=object), len(levels)),
            "target": np.repeat(np.asarray(targets, dtype=np.int64), len(levels)),
            "method": method,
            "metric": metric,
            "level": np.tile(np.asarray(levels, dtype=np.float64), len(image_ids)),
            "value": values.ravel(),
        },
        columns=list(SCORE_COLUMNS),
    )


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table, atomically."""
    write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
