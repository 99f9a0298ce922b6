"""Grids of images for the grid pointing game (Rao et al. 2022): chosen, written, and read as a data set.

On disk: ``grids/<number>.png``, lossless; ``index.csv``, a line a cell (grid, cell, image_id, label), cells counted
along the rows; ``classes.csv``, a line a class of the base data set (label, id, name).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from relmap.data.decoding import read_size
from relmap.data.images import Preprocessing, load_pixels
from relmap.data.manifest import Manifest, build_manifest
from relmap.errors import InputError
from relmap.job.files import atomic_path

INDEX = ("grid", "cell", "image_id", "label")
CLASSES = ("label", "id", "name")
_GRIDS_AT_ONCE = 32  # their tiles are held in memory together


def confident_images(targets: Sequence[pd.DataFrame], confidence: float) -> pd.DataFrame:
    """Images that every model classifies rightly and with at least this probability.

    Args:
        targets: a model's pairs each, with image_id, target, present, predicted and probability.
        confidence: in [0, 1].

    Returns:
        image_id and label, in the order of the first model's pairs.
    """
    found = [
        frame.loc[frame["present"] & frame["predicted"] & (frame["probability"] >= confidence), ["image_id", "target"]]
        for frame in targets
    ]
    first, *others = found
    for other in others:
        first = first.merge(other, on=["image_id", "target"])
    return first.rename(columns={"target": "label"}).reset_index(drop=True)


def compose(labels: Sequence[int] | np.ndarray, n: int, count: int, seed: int) -> np.ndarray:
    """Grids of ``n x n`` images of distinct classes, each image in one grid at most.

    A grid takes the classes of which most images are left, ties at random, so that no other choice makes more grids.
    The first grids are the same whatever ``count``.

    Args:
        labels: (N,) class of each image.
        n: images along a side.
        count: most grids.
        seed: of the order of images, classes and cells.

    Returns:
        (grids, n * n) positions in ``labels``; fewer grids than ``count`` where the images are used up.
    """
    labels = np.asarray(labels, dtype=np.int64)
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(labels))
    left = {label: shuffled[labels[shuffled] == label].tolist() for label in np.unique(labels).tolist()}
    grids: list[np.ndarray] = []
    while len(grids) < count:
        order = sorted(random.permutation(list(left)).tolist(), key=lambda label: -len(left[label]))
        chosen = [label for label in order if left[label]][: n * n]
        if len(chosen) < n * n:
            break
        grids.append(random.permutation([left[label].pop() for label in chosen]))
    return np.array(grids, dtype=np.int64).reshape(-1, n * n)


def refuse_none(grids: np.ndarray, images: pd.DataFrame, n: int, confidence: float, models: Sequence[str]) -> None:
    """Refuse to go on without any grid.

    Raises:
        InputError: with how many images there are, and the keys to change.
    """
    if not len(grids):
        raise InputError(
            f"config: `ae.grids.confidence` {confidence} leaves {len(images)} images of {images['label'].nunique()} "
            f"classes that {' and '.join(models)} are sure of and right, too few for one grid of {n} x {n} distinct "
            "classes; lower it, or `ae.grids.n`, or take fewer `ae.grids.models`"
        )


def write_grids(
    root: str | os.PathLike,
    manifest: Manifest,
    rows: np.ndarray,
    grids: np.ndarray,
    preprocessing: Preprocessing,
    workers: int = 1,
) -> None:
    """Write grids of images as the network sees them: resized, cropped, 8 bits, before normalisation.

    Args:
        root: folder, replaced as a whole.
        manifest: of the base data set.
        rows: (N,) the images' rows in it.
        grids: (grids, n * n) positions in ``rows``, of ``compose``.
        preprocessing: of a tile.
        workers: threads that read and write.
    """
    side = round(grids.shape[1] ** 0.5)
    labels = manifest.single_labels(rows)
    with atomic_path(root) as temporary, ThreadPoolExecutor(max(1, workers)) as pool:
        (temporary / "grids").mkdir(parents=True)
        for start in range(0, len(grids), _GRIDS_AT_ONCE):
            part = grids[start : start + _GRIDS_AT_ONCE]
            tiles = load_pixels(manifest, rows[part.ravel()], preprocessing, workers).numpy()
            pictures = joined(tiles.reshape(len(part), side, side, *tiles.shape[1:]))
            paths = [temporary / _path(start + offset) for offset in range(len(part))]
            list(pool.map(_write_png, paths, pictures))
        ids = manifest.frame["image_id"].to_numpy()
        cells = [
            (grid, cell, ids[rows[position]], int(labels[position]))
            for grid, positions in enumerate(grids)
            for cell, position in enumerate(positions)
        ]
        _write_csv(temporary / "index.csv", INDEX, cells)
        names, class_ids = manifest.info.class_names, manifest.info.class_ids
        known = zip(class_ids or [""] * len(names), names, strict=True)
        _write_csv(temporary / "classes.csv", CLASSES, [(label, *one) for label, one in enumerate(known)])


def joined(tiles: np.ndarray) -> np.ndarray:
    """Tiles (grids, lines, columns, 3, h, w) side by side: (grids, lines * h, columns * w, 3)."""
    grids, lines, columns, colours, height, width = tiles.shape
    return tiles.transpose(0, 1, 4, 2, 5, 3).reshape(grids, lines * height, columns * width, colours)


def read_grids(
    root: str | os.PathLike,
    *,
    dataset: str,
    workers: int = 8,
    classes: Mapping[str, str] | None = None,
    require_training: bool = False,
) -> Manifest:
    """The manifest of the grids: all cells' classes are labels of the picture, and each cell is the box of its class.

    Args:
        root: the folder that ``write_grids`` wrote.
        dataset: id of the data set.
        workers: threads that read files.
        classes: id -> name of the classes of the network that looks at the grids; they must be those of the folder.
        require_training: of no effect: grids are to look at, nothing is trained on them.

    Raises:
        InputError: a file is absent or has other columns or classes, or a grid lacks a cell.
    """
    root = Path(root)
    known = _read_csv(root / "classes.csv", CLASSES, ("label",))
    cells = _read_csv(root / "index.csv", INDEX, ("grid", "cell", "label"))
    if known["label"].tolist() != list(range(len(known))):
        raise InputError(f"{root / 'classes.csv'}: labels are not 0, 1, ... in order; delete the folder and run again")
    if classes is not None and list(classes) != known["id"].tolist():
        raise InputError(f"{root / 'classes.csv'}: other classes than those of the network; make the grids again")
    found = [_grid_row(root, int(number), part.sort_values("cell")) for number, part in cells.groupby("grid")]
    return build_manifest(
        dataset,
        root,
        found,
        known["name"].tolist(),
        class_ids=known["id"].tolist() if (known["id"] != "").all() else (),
        require_training=False,
        workers=workers,
    )


def _grid_row(root: Path, number: int, cells: pd.DataFrame) -> dict[str, object]:
    side = round(len(cells) ** 0.5)
    if cells["cell"].tolist() != list(range(side**2)):
        raise InputError(f"{root / 'index.csv'}: grid {number} has the cells {cells['cell'].tolist()}; make it again")
    width, height = read_size(root / _path(number))
    across, down = width / side, height / side
    return {
        "image_id": f"grid_{number:05}",
        "path": _path(number),
        "split": "test",
        "labels": sorted(cells["label"].tolist()),
        "boxes": [
            [column * across, line * down, (column + 1) * across, (line + 1) * down]
            for line in range(side)
            for column in range(side)
        ],
        "box_labels": cells["label"].tolist(),
        "box_difficult": [False] * len(cells),
        "width": width,
        "height": height,
    }


def _path(number: int) -> str:
    return f"grids/{number:05}.png"


def _write_png(path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(path, compress_level=4)


def _write_csv(path: Path, columns: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)


def _read_csv(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """A file of these columns, as text but for those of whole numbers."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete the folder and run again") from error
    if list(frame.columns) != list(columns):
        raise InputError(f"{path}: has not the columns {', '.join(columns)}; delete the folder and run again")
    try:
        return frame.astype(dict.fromkeys(numbers, int))
    except ValueError as error:
        raise InputError(f"{path}: {error}; delete the folder and run again") from error
