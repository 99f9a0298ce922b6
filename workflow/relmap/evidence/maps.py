"""The store of relevance maps: one Zarr v3 group per (dataset, model, method), with its manifest beside it.

A group holds ``maps`` (pair, y, x), float32, one chunk a map and one shard per 64 maps, ``target`` (pair,), for pairs
of image and target, and ``sha256`` (pair, 32), the digest of each map; image ids and whatever the maker says of its
maps are attributes. Maps of pictures of several sizes lie in the upper left corner of a common frame, 0 outside, and
``size`` (pair, 2) says how high and wide they are. ``<stem>.json`` beside the group repeats the attributes and
carries the SHA-256 of the content, so that two runs can be compared without opening a store.

Whoever opens a store compares it with its manifest, and whoever reads a map compares it with its digest: a lost shard
or a changed byte is an error, not a number. Both work on ranges of maps: memory does not grow with the data set.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from relmap.errors import InputError
from relmap.job.files import as_json, atomic_paths, read_json

_IMAGE_IDS = "image_ids"
_CURE = "delete it and its .json, and run again"
# A read takes about so much memory, whatever the number of maps.
_BYTES_AT_ONCE = 1 << 28


class _Pairs:
    """What has a map for each of N pairs of image and target."""

    image_ids: list[str]
    targets: np.ndarray

    @functools.cached_property
    def index(self) -> pd.MultiIndex:
        """The pairs, to look places up in."""
        return pd.MultiIndex.from_arrays((self.image_ids, self.targets))


@dataclass(frozen=True)
class Maps(_Pairs):
    """Relevance maps in memory.

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

    def at(self, places: np.ndarray) -> np.ndarray:
        """(K, H, W) maps at K places."""
        return self.maps[places]


@dataclass(frozen=True)
class MapStore(_Pairs):
    """A store whose maps are read when they are asked for. Attributes as those of :class:`Maps`."""

    path: Path
    image_ids: list[str]
    targets: np.ndarray
    sizes: np.ndarray
    attrs: dict[str, Any]
    _stored: zarr.Array
    _digests: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width that all maps fit in."""
        return tuple(self._stored.shape[1:])

    def at(self, places: np.ndarray) -> np.ndarray:
        """(K, H, W) float32 maps at K places, each compared with its digest.

        Raises:
            InputError: a map is not the one that was written, or cannot be read.
        """
        places = np.arange(len(self))[places]
        maps = np.empty((len(places), *self._stored.shape[1:]), np.float32)
        # Runs of consecutive places are read together: a shard is opened once.
        for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
            if len(run):
                maps[run] = self._read(int(places[run[0]]), int(places[run[-1]]) + 1)
        return maps

    def _read(self, start: int, stop: int) -> np.ndarray:
        try:
            maps = np.asarray(self._stored[start:stop])
        except Exception as error:  # a damaged shard raises whatever its codec does
            raise InputError(f"{self.path}: maps {start} to {stop - 1} cannot be read ({error}); {_CURE}") from error
        wrong = (_digests_of(maps) != self._digests[start:stop]).any(1)
        if wrong.any():
            place = start + int(np.argmax(wrong))
            raise InputError(
                f"{self.path}: the map of image {self.image_ids[place]} for target {self.targets[place]} does not "
                f"match its digest ({int(wrong.sum())} of {stop - start} maps do not): it was changed or lost; {_CURE}"
            )
        return maps

    def parts(self) -> Iterator[Maps]:
        """All maps, in order, some at a time."""
        step = max(1, _BYTES_AT_ONCE // max(1, 4 * int(np.prod(self._stored.shape[1:]))))
        for start in range(0, len(self), step):
            yield self.part(slice(start, start + step))

    def part(self, rows: slice) -> Maps:
        """Some maps, with what is said of them."""
        places = np.arange(len(self))[rows]
        return Maps(self.at(places), self.image_ids[rows], self.targets[rows], self.sizes[rows], self.attrs)


def _digests_of(maps: np.ndarray) -> np.ndarray:
    """(N, 32) uint8: the SHA-256 of each map's float32 values, lowest byte first."""
    maps = np.ascontiguousarray(maps, dtype="<f4")
    found = b"".join(hashlib.sha256(one).digest() for one in maps)
    return np.frombuffer(found, np.uint8).reshape(len(maps), 32)


def content_sha256(maps: np.ndarray, image_ids: Sequence[str], targets: np.ndarray, sizes: np.ndarray) -> str:
    """Hex digest of a store's content, independent of compression, sharding and platform."""
    return _content(maps.shape, image_ids, targets, sizes, _digests_of(maps))


def _content(
    shape: Sequence[int], image_ids: Sequence[str], targets: np.ndarray, sizes: np.ndarray, digests: np.ndarray
) -> str:
    digest = hashlib.sha256(json.dumps([list(shape), list(image_ids)]).encode())
    digest.update(np.ascontiguousarray(targets, dtype="<i8"))
    digest.update(np.ascontiguousarray(sizes, dtype="<i8"))
    digest.update(np.ascontiguousarray(digests))
    return digest.hexdigest()


def sidecar(path: str | os.PathLike) -> Path:
    """The manifest file of the store at ``path``."""
    return Path(path).with_suffix(".json")


class MapWriter:
    """Takes the maps of a store in order, as many at a time as there are; shards are written whole."""

    def __init__(
        self, path: str | os.PathLike, stored: zarr.Array, image_ids: list[str], sizes: np.ndarray, method: str
    ):
        self._path, self._stored, self._image_ids, self._sizes = path, stored, image_ids, sizes
        self._method, self._shard = method, stored.shards[0]
        self._pending: list[np.ndarray] = []
        self._written = self._taken = 0
        self._digests: list[np.ndarray] = []

    def append(self, maps: np.ndarray) -> None:
        """Take the next K maps, (K, H, W).

        Raises:
            InputError: a map is not finite, or not 0 outside its size; or there are more than the store was opened for.
        """
        maps = np.asarray(maps, dtype=np.float32)
        end = self._taken + len(maps)
        if maps.shape[1:] != self._stored.shape[1:] or end > len(self._image_ids):
            raise InputError(
                f"{self._path}: maps {maps.shape} after {self._taken} of {self._method} do not fit "
                f"{self._stored.shape}; give maps (N, H, W), N ids and N targets"
            )
        _check_finite(maps, self._image_ids[self._taken : end], self._path, self._method)
        _check_sizes(maps, self._sizes[self._taken : end], self._path)
        self._taken = end
        self._digests.append(_digests_of(maps))
        self._pending.append(maps)
        self._flush(end // self._shard * self._shard if end < len(self._image_ids) else end)

    def _flush(self, end: int) -> None:
        if end <= self._written:
            return
        maps = np.concatenate(self._pending)
        count = end - self._written
        self._stored[self._written : end] = maps[:count]
        self._written, self._pending = end, [maps[count:].copy()]

    def finish(self) -> np.ndarray:
        """(N, 32) digests of all maps.

        Raises:
            InputError: fewer maps came than the store was opened for.
        """
        if self._taken < len(self._image_ids):
            raise InputError(
                f"{self._path}: {self._taken} maps of {self._method} for {len(self._image_ids)} image ids do not fit; "
                "give maps (N, H, W), N ids and N targets"
            )
        return np.concatenate([np.empty((0, 32), np.uint8), *self._digests])


@contextmanager
def writing_maps(
    path: str | os.PathLike,
    frame: tuple[int, int],
    image_ids: Sequence[str],
    targets: np.ndarray,
    attrs: Mapping[str, Any],
    shard: int = 64,
    sizes: np.ndarray | None = None,
) -> Iterator[MapWriter]:
    """Write a store and its manifest, part by part: both appear when the block ends well, or both are as they were.

    Args:
        path: the group's folder, ``<method>.zarr``.
        frame: (H, W) that all maps fit in.
        image_ids: N ids; with the targets they are unique.
        targets: (N,) integer class labels.
        attrs: JSON values that say what the maps are; ``method`` is named in error messages.
        shard: maps per shard file.
        sizes: (N, 2) height and width of each map; all of ``frame`` by default.

    Raises:
        InputError: a map is not finite, or not 0 outside its size, targets are no whole numbers, lengths do not fit, a
            pair comes twice, or JSON cannot hold the attributes.
    """
    given = np.asarray(targets)
    targets = given.astype(np.int64)
    if given.dtype.kind not in "iu" and len(given):
        raise InputError(f"{path}: targets are {given.dtype}; give whole numbers, the classes that the maps explain")
    image_ids = [str(image_id) for image_id in image_ids]
    method = attrs.get("method", Path(path).stem)
    if targets.shape != (len(image_ids),):
        raise InputError(
            f"{path}: {len(image_ids)} image ids and targets {targets.shape} of {method} do not fit; give N of each"
        )
    pairs = list(zip(image_ids, targets.tolist(), strict=True))
    if len(set(pairs)) != len(pairs):
        (image, target), _ = Counter(pairs).most_common(1)[0]
        raise InputError(
            f"{path}: image id {image} occurs more than once with target {target} in the maps of {method}; a pair of "
            "image and target has one map"
        )
    shape = (len(image_ids), *frame)
    sizes = np.tile(frame, (len(image_ids), 1)) if sizes is None else np.asarray(sizes, dtype=np.int64)
    if sizes.shape != (len(image_ids), 2) or (sizes < 0).any() or (sizes > frame).any():
        raise InputError(f"{path}: sizes {sizes.shape} of maps {shape}; give a height and width of each, inside")
    as_json(dict(attrs=dict(attrs)), f"{path}: manifest")  # refused before anything is computed
    with atomic_paths(path, sidecar(path)) as (temporary, beside):
        group = zarr.create_group(temporary, zarr_format=3)
        stored = group.create_array(
            "maps",
            shape=shape,
            chunks=(1, *frame),
            shards=(shard, *frame),
            dtype="float32",
            dimension_names=("pair", "y", "x"),
        )
        writer = MapWriter(path, stored, image_ids, sizes, method)
        yield writer
        digests = writer.finish()
        digest = _content(shape, image_ids, targets, sizes, digests)
        manifest = {"content_sha256": digest, "shape": list(shape), "attrs": dict(attrs)}
        for name, values, axes in (
            ("target", targets, ("pair",)),
            ("size", sizes, ("pair", "height_width")),
            ("sha256", digests, ("pair", "byte")),
        ):
            chunks = (max(len(values), 1), *values.shape[1:])
            kept = group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype, dimension_names=axes)
            kept[:] = values
        group.attrs.update({_IMAGE_IDS: image_ids, "content_sha256": digest, "attrs": dict(attrs)})
        beside.write_text(as_json(manifest, f"{path}: manifest"))


def write_maps(
    path: str | os.PathLike,
    maps: np.ndarray,
    image_ids: Sequence[str],
    targets: np.ndarray,
    attrs: Mapping[str, Any],
    shard: int = 64,
    sizes: np.ndarray | None = None,
) -> None:
    """Write maps (N, H, W) that are in memory; all else as :func:`writing_maps`."""
    maps = np.asarray(maps, dtype=np.float32)
    if maps.ndim != 3:
        raise InputError(f"{path}: maps {maps.shape} do not fit; give maps (N, H, W), N ids and N targets")
    with writing_maps(path, maps.shape[1:], image_ids, targets, attrs, shard, sizes) as writer:
        writer.append(maps)


def join_maps(
    parts: Sequence[str | os.PathLike], path: str | os.PathLike, image_ids: Sequence[str], targets: np.ndarray
) -> None:
    """Write a store of what several hold, one after another, as if one job had made it; maps are compared and copied.

    Args:
        parts: stores of the same method with the same frame.
        path: the new store.
        image_ids, targets: the pairs that it must hold, in order.

    Raises:
        InputError: as :func:`open_maps`; or the parts do not belong together, or hold other pairs.
    """
    stores = [open_maps(part) for part in parts]
    for store in stores[1:]:
        if store.attrs != stores[0].attrs or store.frame != stores[0].frame:
            raise InputError(f"{store.path}: of other settings than {stores[0].path}; delete both and run again")
    held = [pair for store in stores for pair in zip(store.image_ids, store.targets.tolist(), strict=True)]
    if held != list(zip(image_ids, np.asarray(targets).tolist(), strict=True)):
        raise InputError(
            f"{path}: its {len(stores)} parts hold {len(held)} maps, not those of the {len(image_ids)} pairs of image "
            "and target that this run explains; delete them and run again"
        )
    sizes = np.concatenate([store.sizes for store in stores])
    with writing_maps(path, stores[0].frame, image_ids, targets, stores[0].attrs, sizes=sizes) as writer:
        for store in stores:
            for part in store.parts():
                writer.append(part.maps)


def _check_finite(maps: np.ndarray, image_ids: Sequence[str], path: str | os.PathLike, method: str) -> None:
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        culprit = image_ids[int(np.argmin(finite))]
        raise InputError(
            f"{path}: the map of {method} for image {culprit} contains NaN or infinity "
            f"({int((~finite).sum())} of {len(maps)} maps do); check the model's weights and the method's stabiliser"
        )


def _check_sizes(maps: np.ndarray, sizes: np.ndarray, path: str | os.PathLike) -> None:
    for size in np.unique(sizes, axis=0):
        alike = (sizes == size).all(1)
        if maps[alike, size[0] :].any() or maps[alike, :, size[1] :].any():
            raise InputError(f"{path}: a map is not 0 outside its size {size.tolist()}; cut it, or correct its size")


def open_maps(path: str | os.PathLike) -> MapStore:
    """Open a store, and compare what it says of its maps with its manifest.

    Args:
        path: the group's folder.

    Raises:
        InputError: the store or its manifest is absent, or they do not fit, or the store is not one of relmap's.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: no such store of maps; run the rule that makes it")
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        stored = group["maps"]
        image_ids, attrs = list(attributes[_IMAGE_IDS]), dict(attributes["attrs"])
        targets, sizes, digests = (np.asarray(group[name][:]) for name in ("target", "size", "sha256"))
    except Exception as error:  # whatever a codec or a malformed file raises
        raise InputError(f"{path}: not a store of relevance maps ({error}); {_CURE}") from error
    manifest = read_json(sidecar(path))
    given = isinstance(manifest, dict) and (
        manifest.get("content_sha256"),
        manifest.get("shape"),
        manifest.get("attrs"),
    )
    if given != (_content(stored.shape, image_ids, targets, sizes, digests), list(stored.shape), attrs):
        raise InputError(f"{path}: does not match its manifest {sidecar(path).name}: one was changed; {_CURE}")
    return MapStore(Path(path), image_ids, targets, sizes, attrs, stored, digests)


def read_maps(path: str | os.PathLike, rows: slice = slice(None)) -> Maps:
    """Read a store, or some of its rows, into memory.

    Args:
        path: the group's folder.
        rows: which maps; everything by default.

    Raises:
        InputError: as :func:`open_maps`, or a map is not the one that was written.
    """
    return open_maps(path).part(rows)


def verify_maps(path: str | os.PathLike) -> str:
    """Read all of a store, and compare it with its manifest and its digests.

    Returns:
        The hex digest of the content.

    Raises:
        InputError: something differs.
    """
    store = open_maps(path)
    for _ in store.parts():
        pass
    return read_json(sidecar(path))["content_sha256"]
