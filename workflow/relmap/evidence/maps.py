"""The store of relevance maps: one Zarr v3 group per (dataset, model, method), with its manifest beside it.

A group holds ``maps`` (pair, y, x), float32, one chunk a map and one shard per write batch, and ``target`` (pair,), for
pairs of image and target; image ids and whatever the maker says of its maps are attributes. Maps of pictures of several
sizes lie in the upper left corner of a common frame, 0 outside, and ``size`` (pair, 2) says how high and wide they are.
``<stem>.json`` beside the group repeats the attributes and carries the SHA-256 of the content, so that two runs can be
compared without opening a store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from relmap.errors import InputError
from relmap.job.files import as_json, atomic_paths, read_json

_IMAGE_IDS = "image_ids"


@dataclass(frozen=True)
class Maps:
    """Relevance maps read from a store.

    Attributes:
        maps: (N, H, W) float32, signed, not normalised; outside its own size a map is 0.
        image_ids: the image of each map, in the order of ``maps``.
        targets: (N,) int64, the class that each map explains.
        sizes: (N, 2) int64, height and width of each map.
        attrs: what the maker said of them (method, parameters, weights, seed, ...).
    """

    maps: np.ndarray
    image_ids: list[str]
    targets: np.ndarray
    sizes: np.ndarray
    attrs: dict[str, Any]


def content_sha256(maps: np.ndarray, image_ids: Sequence[str], targets: np.ndarray, sizes: np.ndarray) -> str:
    """Hex digest of a store's content, independent of compression, sharding and platform."""
    maps = np.ascontiguousarray(maps, dtype="<f4")
    digest = hashlib.sha256(json.dumps([list(maps.shape), list(image_ids)]).encode())
    digest.update(np.ascontiguousarray(targets, dtype="<i8"))
    digest.update(np.ascontiguousarray(sizes, dtype="<i8"))
    digest.update(maps)
    return digest.hexdigest()


def sidecar(path: str | os.PathLike) -> Path:
    """The manifest file of the store at ``path``."""
    return Path(path).with_suffix(".json")


def write_maps(
    path: str | os.PathLike,
    maps: np.ndarray,
    image_ids: Sequence[str],
    targets: np.ndarray,
    attrs: Mapping[str, Any],
    shard: int = 64,
    sizes: np.ndarray | None = None,
) -> None:
    """Write a store and its manifest: both, or a failure leaves both as they were.

    Args:
        path: the group's folder, ``<method>.zarr``.
        maps: (N, H, W), stored as float32.
        image_ids: N ids; with the targets they are unique.
        targets: (N,) integer class labels.
        attrs: JSON values that say what the maps are; ``method`` is named in error messages.
        shard: maps per shard file.
        sizes: (N, 2) height and width of each map; all of (H, W) by default.

    Raises:
        InputError: a map is not finite, or not 0 outside its size, targets are no whole numbers, lengths do not fit, a
            pair comes twice, or JSON cannot hold the attributes.
    """
    maps = np.asarray(maps, dtype=np.float32)
    given = np.asarray(targets)
    targets = given.astype(np.int64)
    if given.dtype.kind not in "iu" and len(given):
        raise InputError(f"{path}: targets are {given.dtype}; give whole numbers, the classes that the maps explain")
    image_ids = [str(image_id) for image_id in image_ids]
    method = attrs.get("method", Path(path).stem)
    if maps.ndim != 3 or len(image_ids) != len(maps) or targets.shape != maps.shape[:1]:
        raise InputError(
            f"{path}: maps {maps.shape}, {len(image_ids)} image ids and targets {targets.shape} of {method} do not "
            "fit; give maps (N, H, W), N ids and N targets"
        )
    pairs = list(zip(image_ids, targets.tolist(), strict=True))
    if len(set(pairs)) != len(pairs):
        (image, target), _ = Counter(pairs).most_common(1)[0]
        raise InputError(
            f"{path}: image id {image} occurs more than once with target {target} in the maps of {method}; a pair of "
            "image and target has one map"
        )
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        culprit = image_ids[int(np.argmin(finite))]
        raise InputError(
            f"{path}: the map of {method} for image {culprit} contains NaN or infinity "
            f"({int((~finite).sum())} of {len(maps)} maps do); check the model's weights and the method's stabiliser"
        )

    sizes = np.tile(maps.shape[1:], (len(maps), 1)) if sizes is None else np.asarray(sizes, dtype=np.int64)
    _check_sizes(maps, sizes, path)
    digest = content_sha256(maps, image_ids, targets, sizes)
    manifest = {"content_sha256": digest, "shape": list(maps.shape), "attrs": dict(attrs)}
    text = as_json(manifest, f"{path}: manifest")
    with atomic_paths(path, sidecar(path)) as (temporary, beside):
        group = zarr.create_group(temporary, zarr_format=3)
        chunk = (1, *maps.shape[1:])
        stored = group.create_array(
            "maps",
            shape=maps.shape,
            chunks=chunk,
            shards=(shard, *maps.shape[1:]),
            dtype="float32",
            dimension_names=("pair", "y", "x"),
        )
        stored[:] = maps
        group.create_array(
            "target", shape=targets.shape, chunks=(max(len(targets), 1),), dtype="int64", dimension_names=("pair",)
        )[:] = targets
        group.create_array(
            "size",
            shape=sizes.shape,
            chunks=(max(len(sizes), 1), 2),
            dtype="int64",
            dimension_names=("pair", "height_width"),
        )[:] = sizes
        group.attrs.update({_IMAGE_IDS: image_ids, "content_sha256": digest, "attrs": dict(attrs)})
        beside.write_text(text)


def _check_sizes(maps: np.ndarray, sizes: np.ndarray, path: str | os.PathLike) -> None:
    if sizes.shape != (len(maps), 2) or (sizes < 0).any() or (sizes > maps.shape[1:]).any():
        raise InputError(f"{path}: sizes {sizes.shape} of maps {maps.shape}; give a height and width of each, inside")
    for size in np.unique(sizes, axis=0):
        alike = (sizes == size).all(1)
        if maps[alike, size[0] :].any() or maps[alike, :, size[1] :].any():
            raise InputError(f"{path}: a map is not 0 outside its size {size.tolist()}; cut it, or correct its size")


def read_maps(path: str | os.PathLike, rows: slice = slice(None)) -> Maps:
    """Read a store, or some of its rows.

    Args:
        path: the group's folder.
        rows: which maps; everything by default.

    Raises:
        InputError: the store is absent or is not one of relmap's.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: no such store of maps; run the rule that makes it")
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        return Maps(
            maps=np.asarray(group["maps"][rows]),
            image_ids=list(attributes[_IMAGE_IDS])[rows],
            targets=np.asarray(group["target"][rows]),
            sizes=np.asarray(group["size"][rows]),
            attrs=dict(attributes["attrs"]),
        )
    except (KeyError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a store of relevance maps ({error}); delete it and run again") from error


def verify_maps(path: str | os.PathLike) -> str:
    """Recompute a store's content hash and compare it, and the store's attributes, with its manifest.

    Returns:
        The hex digest.

    Raises:
        InputError: the two differ.
    """
    stored = read_maps(path)
    digest = content_sha256(stored.maps, stored.image_ids, stored.targets, stored.sizes)
    manifest = read_json(sidecar(path))
    if manifest.get("content_sha256") != digest or manifest.get("attrs") != stored.attrs:
        raise InputError(f"{path}: the content does not match {sidecar(path).name}; delete both and run again")
    return digest
