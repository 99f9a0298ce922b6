"""One table per dataset: every later stage reads this and never the dataset's own annotation files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from relmap.data.decoding import check_size
from relmap.data.listing import about, inside
from relmap.data.members import file_of
from relmap.data.states import State, States, read_states, states_file, write_states
from relmap.data.threads import thread_map
from relmap.errors import InputError
from relmap.job.files import sha256_file
from relmap.job.parquet import read_table, write_table

SPLITS = ("train", "test")
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        ("labels", pa.list_(pa.int64())),
        ("boxes", pa.list_(pa.list_(pa.float64()))),
        ("box_labels", pa.list_(pa.int64())),
        ("box_difficult", pa.list_(pa.bool_())),
        ("box_masks", pa.list_(pa.string())),
        ("mask_path", pa.string()),
        ("part_map_path", pa.string()),
        ("part_points", pa.list_(pa.list_(pa.float64()))),
        ("width", pa.int64()),
        ("height", pa.int64()),
    ]
)
COLUMNS = tuple(SCHEMA.names)
_METADATA_KEY, _FILES_KEY, _CHECK_KEY = b"relmap", b"relmap.files", b"relmap.sha256"
# Below this, the fingerprint covers every byte of images and masks; above it (ImageNet) their sizes only, because the
# archives were verified before extraction and reading 140 GB again would take longer than the evaluation.
HASH_BYTES_LIMIT = 4 * 2**30


@dataclass(frozen=True)
class ManifestInfo:
    """What is true of a whole dataset.

    Attributes:
        dataset: id, for example ``cub200_2011``.
        root: folder that the rows' paths are relative to.
        fingerprint: sha256 of the rows, the class and part names and the files (independent of ``root``).
        class_names: name of label 0, 1, ...
        part_names: name of value 1, 2, ... in the part maps (0 is background); empty without part maps.
        distinguishing: label -> names of the parts that tell the class from its neighbours; may be empty.
        point_names: name of part 1, 2, ... in ``part_points``; empty without them.
        class_ids: what the data set's own files call label 0, 1, ..., such as wnids; empty where nobody says.
    """

    dataset: str
    root: str
    fingerprint: str
    class_names: tuple[str, ...]
    part_names: tuple[str, ...] = ()
    distinguishing: Mapping[int, Sequence[str]] = field(default_factory=dict)
    point_names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; the inverse of ``from_dict``."""
        return {**asdict(self), "distinguishing": {str(k): list(v) for k, v in self.distinguishing.items()}}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ManifestInfo:
        """Inverse of ``to_dict``."""
        known = dict(value)
        for key in ("class_names", "part_names", "point_names", "class_ids"):
            known[key] = tuple(known.get(key, ()))
        known["distinguishing"] = {int(k): list(v) for k, v in known.get("distinguishing", {}).items()}
        return cls(**known)


@dataclass(frozen=True)
class Manifest:
    """A dataset's rows and what is true of all of them.

    ``frame`` has the columns of ``SCHEMA`` and a 0-based range index. ``labels`` are an image's classes, ascending.
    ``boxes`` are lists of [x0, y0, x1, y1] in continuous pixel edges of the stored image (a full image is
    [0, 0, width, height]); ``box_labels`` and ``box_difficult`` say of each box which class it holds and whether
    annotators found it difficult, ``box_masks`` which pixels: run lengths as ``relmap.data.runs`` reads them, "" where
    the box has no mask. ``part_points`` are lists of [part number from 1, x, y] of visible parts, in pixels. ``states``
    are those of the files that it was made of; None where nobody recorded them.
    """

    frame: pd.DataFrame
    info: ManifestInfo
    states: States | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, split: str | None = None) -> np.ndarray:
        """Positions of a split's rows (of all rows without ``split``), ascending, int64."""
        if split is None:
            return np.arange(len(self.frame))
        if split not in SPLITS:
            raise InputError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
        return np.flatnonzero((self.frame["split"] == split).to_numpy())

    def resolve(self, path: str) -> Path:
        """Where a row's ``path``, ``mask_path`` or ``part_map_path`` lies; a path may lead into a MATLAB file."""
        return Path(self.info.root) / path

    def check(self, path: str) -> None:
        """Refuse a file that is not what it was when the manifest was made.

        Raises:
            InputError: it was changed or removed.
        """
        if self.states is not None:
            self.states.check(file_of(path), Path(file_of(self.resolve(path))))

    def label_sets(self, rows: Sequence[int] | np.ndarray | None = None) -> list[tuple[int, ...]]:
        """Labels of ``rows`` (of all without them), ascending in each image."""
        column = self.frame["labels"]
        return [tuple(column.iat[row]) for row in (range(len(self)) if rows is None else rows)]

    def single_labels(self, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The one label of each image of ``rows`` (of all without them), int64.

        Raises:
            InputError: an image has several labels, or none.
        """
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        found = self.label_sets(rows)
        for row, labels in zip(rows, found, strict=True):
            if len(labels) != 1:
                raise InputError(
                    f"{self.info.dataset}: image {self.frame['image_id'].iat[row]} has {len(labels)} labels, where one "
                    "is needed; leave it out, or take what works with several"
                )
        return np.array([labels[0] for labels in found], dtype=np.int64)

    def rank_in_class(self, rows: np.ndarray) -> np.ndarray:
        """Of each of ``rows``, in their order: how many before it carry its class; of several classes the least.

        Images without a class rank behind all others.
        """
        seen: dict[int, int] = {}
        ranks = np.zeros(len(rows), dtype=np.int64)
        for place, labels in enumerate(self.label_sets(rows)):
            ranks[place] = min((seen.get(label, 0) for label in labels), default=len(rows))
            for label in labels:
                seen[label] = seen.get(label, 0) + 1
        return ranks


def build_manifest(
    dataset: str,
    root: str | os.PathLike,
    rows: Iterable[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    part_names: Sequence[str] = (),
    distinguishing: Mapping[int, Sequence[str]] | None = None,
    point_names: Sequence[str] = (),
    class_ids: Sequence[str] = (),
    require_labels: bool = True,
    require_masks: bool = False,
    require_training: bool = True,
    workers: int = 8,
) -> Manifest:
    """Check a dataset's rows, clip its boxes, and give it a fingerprint.

    Args:
        rows: one mapping per image with the keys of ``SCHEMA``; ``boxes``, ``mask_path``, ``part_map_path`` and
            ``part_points`` may be left out, as may masks of boxes, and what else is said of boxes where an image has
            one label.
        require_labels: every image must have a label; without it images of no class are allowed.
        require_masks: every image must have a segmentation.
        require_training: every class must have a training image.
        workers: threads that read files for the fingerprint.

    Raises:
        InputError: no images, a duplicate id, an image without label or with one twice, a label outside the classes,
            a box whose class is not told, a class without training images, a missing mask, a file that does not exist,
            or a box outside its image.
    """
    frame = _frame(rows)
    info = ManifestInfo(
        dataset,
        str(root),
        "",
        tuple(class_names),
        tuple(part_names),
        {int(k): list(v) for k, v in (distinguishing or {}).items()},
        tuple(point_names),
        tuple(class_ids),
    )
    _check_rows(frame, info, require_labels, require_masks, require_training)
    frame["boxes"] = clip_boxes(frame, dataset)
    states = states_of(frame, Path(info.root), workers)
    return Manifest(frame, replace(info, fingerprint=fingerprint_of(frame, info, states)), states)


def _frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    defaults = {"boxes": [], "part_points": [], "mask_path": None, "part_map_path": None}
    rows = [_with_box_columns(row) for row in rows]
    columns = {name: [row.get(name, defaults.get(name)) for row in rows] for name in COLUMNS}
    return _as_frame(pa.Table.from_pydict(columns, schema=SCHEMA))


def _with_box_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Labels in order; a box holds the image's one class and is not difficult, unless the row says otherwise."""
    labels, boxes = sorted(int(label) for label in row["labels"]), row.get("boxes", [])
    own = labels if len(labels) == 1 else [-1]
    count = len(boxes)
    given = {"box_labels": own * count, "box_difficult": [False] * count, "box_masks": [""] * count, **row}
    return {**given, "labels": labels}


def _as_frame(table: pa.Table) -> pd.DataFrame:
    """Nested and nullable columns stay Python lists and None: pandas would turn them into arrays and NaN."""
    numeric = {"width": np.int64, "height": np.int64}
    return pd.DataFrame(
        {name: pd.Series(table[name].to_pylist(), dtype=numeric.get(name, object)) for name in table.column_names}
    )


def _check_rows(
    frame: pd.DataFrame, info: ManifestInfo, require_labels: bool, require_masks: bool, require_training: bool
) -> None:
    where = f"{info.dataset} in {info.root}"
    if frame.empty:
        raise InputError(f"{where}: no images found; check that the folder holds the extracted dataset")
    duplicates = frame["image_id"][frame["image_id"].duplicated()]
    if len(duplicates):
        raise InputError(f"{where}: image id {duplicates.iloc[0]!r} appears more than once; remove the copies")
    unknown = frame[~frame["split"].isin(SPLITS)]
    if len(unknown):
        row = unknown.iloc[0]
        raise InputError(f"{where}: {row.image_id} has the unknown split {row.split!r}; use train or test")
    classes = len(info.class_names)
    if len(info.class_ids) not in (0, classes):
        raise InputError(f"{where}: {len(info.class_ids)} ids of classes, but {classes} names; give as many of each")
    for row in frame.itertuples():
        with about(info.dataset, row.image_id):
            _check_row(row, where, info, require_labels)
    if require_training:
        labels = [label for labels in frame["labels"][frame["split"] == "train"] for label in labels]
        trained = np.bincount(np.array(labels, dtype=np.int64), minlength=classes)
        empty = np.flatnonzero(trained == 0)
        if len(empty):
            name = info.class_names[empty[0]]
            raise InputError(
                f"{where}: class {name!r} (label {empty[0]}) has no training images; add some, or remove the class"
                + (f" ({len(empty)} such classes)" if len(empty) > 1 else "")
            )
    if require_masks:
        missing = frame[frame["mask_path"].isna()]
        if len(missing):
            with about(info.dataset, missing.iloc[0].image_id):
                raise InputError(
                    f"{where}: image {missing.iloc[0].path} has no segmentation mask ({len(missing)} such images); "
                    "add the mask (the segmentations archive has them all), or remove the image"
                )


def _check_row(row: Any, where: str, info: ManifestInfo, require_labels: bool) -> None:
    """One image."""
    classes = len(info.class_names)
    for path in (row.path, row.mask_path, row.part_map_path):
        if path is not None:
            inside(path, f"{where}: {row.image_id}")
    wrong = [label for label in row.labels if not 0 <= label < classes]
    if wrong:
        raise InputError(
            f"{where}: {row.image_id} has label {wrong[0]}, but there are {classes} classes; fix the label"
        )
    if require_labels and not row.labels:
        raise InputError(f"{where}: {row.image_id} has no label; add it, or remove the image")
    if len(set(row.labels)) < len(row.labels):
        raise InputError(f"{where}: {row.image_id} has the labels {row.labels}; give each class in it once")
    if not len(row.boxes) == len(row.box_labels) == len(row.box_difficult) == len(row.box_masks):
        raise InputError(
            f"{where}: {row.image_id} has {len(row.boxes)} boxes, {len(row.box_labels)} classes of boxes, "
            f"{len(row.box_difficult)} marks of difficulty and {len(row.box_masks)} masks of boxes; give as many "
            "of each"
        )
    stray = [label for label in row.box_labels if not 0 <= label < classes]
    if stray:
        raise InputError(
            f"{where}: {row.image_id} has a box of class {stray[0]}, but there are {classes} classes; name the "
            "class of each box in box_labels"
        )
    if min(row.width, row.height) <= 0:
        raise InputError(f"{where}: {row.path} has size {row.width} x {row.height}; replace or remove the image")
    check_size(f"{info.root}/{row.path}", row.width, row.height)


def clip_boxes(
    frame: pd.DataFrame, dataset: str, tolerance: float = 3.0, share: float = 0.05
) -> list[list[list[float]]]:
    """Boxes cut to their images.

    Annotators' boxes reach a little over the border; such overhang of at most ``tolerance`` pixels or ``share`` of the
    side is cut, more is an error, because then box and image do not belong together.

    Raises:
        InputError: a box outside its image, or without area.
    """
    counts = frame["boxes"].map(len).to_numpy(dtype=np.int64)
    if not counts.sum():
        return frame["boxes"].tolist()
    boxes = np.array([box for image in frame["boxes"] for box in image], dtype=np.float64).reshape(-1, 4)
    owner = np.repeat(np.arange(len(frame)), counts)
    size = frame[["width", "height", "width", "height"]].to_numpy(dtype=np.float64)[owner]
    clipped = np.clip(boxes, 0, size)
    overhang = np.abs(boxes - clipped)
    finite = np.isfinite(boxes).all(1)
    bad = ~finite | (overhang > np.maximum(tolerance, share * size)).any(1)
    bad |= (clipped[:, 2] <= clipped[:, 0]) | (clipped[:, 3] <= clipped[:, 1])
    if bad.any():
        first = int(np.argmax(bad))
        row = frame.iloc[owner[first]]
        with about(dataset, row.image_id):
            raise InputError(
                f"{dataset}: box {boxes[first].tolist()} (x0, y0, x1, y1) of {row.path} has no area inside the image "
                f"of {row.width} x {row.height} pixels, or reaches far outside; correct the annotation or remove the "
                "image"
            )
    ends = np.cumsum(counts)
    nested = clipped.tolist()
    return [nested[end - count : end] for end, count in zip(ends, counts, strict=True)]


def refuse_links(manifest: Manifest, workers: int = 8) -> None:
    """Files of a retrieved data set lie in its folder; a link out of it is none that an archive of ours had.

    Raises:
        InputError: a file lies elsewhere.
    """
    root = Path(manifest.info.root).resolve()
    named = (path for column in ("path", "mask_path", "part_map_path") for path in manifest.frame[column])
    # One file that holds all pictures was verified itself, and a person may have put a link to it in its place.
    paths = sorted({path for path in named if path is not None and file_of(path) == path})
    are_links = thread_map(lambda path: os.path.islink(root / path), paths, workers)
    links = [path for path, is_link in zip(paths, are_links, strict=True) if is_link]
    for path in (*sorted({os.path.dirname(path) for path in paths}), *links):
        if not (root / path).resolve().is_relative_to(root):
            raise InputError(f"{root / path}: is a link out of {root}; delete it and unpack the archive again")


def states_of(frame: pd.DataFrame, root: Path, workers: int = 8) -> States:
    """Sizes, times and, up to ``HASH_BYTES_LIMIT`` in all, digests of the files that rows name.

    Raises:
        InputError: a file does not exist.
    """
    ordered = frame.sort_values("image_id", kind="stable")
    paths = [path for column in ("path", "mask_path", "part_map_path") for path in ordered[column] if path is not None]
    # Pictures inside one file share it.
    paths = list(dict.fromkeys(map(file_of, paths)))

    def status(path: str) -> os.stat_result:
        try:
            return os.stat(root / path)
        except OSError as error:
            raise InputError(
                f"{root / path}: cannot be read ({error.strerror}); restore it, or remove its row"
            ) from error

    found = thread_map(status, paths, workers)
    hashed = sum(one.st_size for one in found) <= HASH_BYTES_LIMIT
    digests = thread_map(lambda path: sha256_file(root / path), paths, workers) if hashed else [""] * len(paths)
    states = (State(one.st_size, one.st_mtime_ns, digest) for one, digest in zip(found, digests, strict=True))
    return States(dict(zip(paths, states, strict=True)))


def fingerprint_of(frame: pd.DataFrame, info: ManifestInfo, states: States) -> str:
    """sha256 over rows, names and files (bytes, or sizes above ``HASH_BYTES_LIMIT``); neither order nor root count."""
    ordered = frame.sort_values("image_id", kind="stable")
    total = hashlib.sha256()
    names = info.to_dict()
    del names["root"], names["fingerprint"]
    total.update(json.dumps(names, sort_keys=True).encode())
    for row in ordered[list(COLUMNS)].itertuples(index=False):
        total.update(json.dumps(list(row)).encode())
    total.update(json.dumps([state.sha256 or state.size for state in states.known.values()]).encode())
    return total.hexdigest()


def write_manifest(
    frame: pd.DataFrame, path: str | os.PathLike, info: ManifestInfo, states: States | None = None
) -> None:
    """Write rows as Parquet, with ``info`` as JSON in the schema's metadata; the files' states beside them.

    Times are not part of the manifest: what is rendered again and equal has an equal one.
    """
    columns = {name: frame[name].tolist() for name in COLUMNS}
    metadata = {_METADATA_KEY: json.dumps(info.to_dict(), sort_keys=True).encode()}
    if states is not None:
        metadata[_FILES_KEY] = states.digest.encode()
    metadata[_CHECK_KEY] = _check_of(metadata)
    write_table(pa.Table.from_pydict(columns, schema=SCHEMA.with_metadata(metadata)), path)
    if states is not None:
        write_states(states, states_file(path))


def _check_of(metadata: Mapping[bytes, bytes]) -> bytes:
    """Digest of what stands in the metadata, which no page's checksum covers."""
    return hashlib.sha256(metadata[_METADATA_KEY] + metadata.get(_FILES_KEY, b"")).hexdigest().encode()


def read_manifest(path: str | os.PathLike) -> Manifest:
    """Read what ``write_manifest`` wrote.

    Raises:
        InputError: the file is absent, damaged or no manifest, or the table of its files is absent or another's.
    """
    table = read_table(path)
    metadata = table.schema.metadata or {}
    missing = [name for name in COLUMNS if name not in table.column_names]
    if _METADATA_KEY not in metadata or missing:
        what = f"the columns {', '.join(missing)}" if missing else "relmap's metadata"
        raise InputError(f"{path}: not a relmap manifest, it lacks {what}; delete it and run again")
    if metadata.get(_CHECK_KEY) != _check_of(metadata):
        raise InputError(f"{path}: was changed after it was written; delete it and run again")
    info = ManifestInfo.from_dict(json.loads(metadata[_METADATA_KEY]))
    frame = _as_frame(table.select(list(COLUMNS)))
    frame.attrs = {"dataset": info.dataset, "root": info.root, "fingerprint": info.fingerprint}
    states = read_states(states_file(path)) if _FILES_KEY in metadata else None
    if states is not None and states.digest.encode() != metadata[_FILES_KEY]:
        raise InputError(f"{states_file(path)}: is not this manifest's; delete both and run again")
    return Manifest(frame, info, states)
