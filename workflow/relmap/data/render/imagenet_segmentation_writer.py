"""Rendered objects with their masks in ImageNet-Segmentation's layout, one MATLAB file: ``gtsegs_ijcv.mat``.

The classes are the first of the ImageNet role's, and a picture's name is its class's wnid and a number.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import Progress, check_sizes, generator, render_all
from relmap.data.render.scenes import render_scene
from relmap.job.files import atomic_path

DATASET_KEY = 5
FILE = "gtsegs_ijcv.mat"
_HEADER = b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM"
_ROOM = 512
"""Bytes before the HDF5 file, which MATLAB puts there for its header."""


@dataclass(frozen=True)
class Segmented:
    """A picture (H, W, 3), its mask (H, W) of 0 and 1, both uint8, and its name."""

    name: str
    image: np.ndarray
    mask: np.ndarray


def render_imagenet_segmentation(
    root: Path,
    *,
    classes: int,
    per_class: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write ``gtsegs_ijcv.mat`` under ``root``: one object a picture, the classes mixed.

    The pixels depend on all arguments but ``workers``; a picture's only on (size, seed, class, index).

    Args:
        root: folder to make; replaced whole if it exists.
        classes: 2 to ``len(catalogue.CLASSES)``; no more than the ImageNet role has.
        per_class: pictures of a class.
        size: shorter side of the pictures in px, at least 32.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: an argument is impossible, or the disk is full.
    """
    sizes = {"classes": classes, "per_class": per_class, "size": size, "seed": seed, "workers": workers}
    check_sizes("imagenet_segmentation", len(CLASSES), **sizes)
    pairs = [(label, index) for label in range(classes) for index in range(per_class)]
    jobs = [pairs[k] for k in generator(seed, DATASET_KEY, 2).permutation(len(pairs))]
    with atomic_path(root) as temporary:
        temporary.mkdir(parents=True)
        render = functools.partial(_render, size=size, seed=seed)
        write_mat(temporary / FILE, list(render_all(render, jobs, workers, progress)))


def _render(job: tuple[int, int], *, size: int, seed: int) -> Segmented:
    label, index = job
    scene = render_scene(label, generator(seed, DATASET_KEY, label, index), size, seed, most=1)
    return Segmented(f"{CLASSES[label].wnid}_{index + 1}", np.asarray(scene.image), scene.mask.astype(np.uint8))


def write_mat(path: Path, pictures: Sequence[Segmented]) -> None:
    """Write pictures in MATLAB v7.3's layout: lists of references below ``/value``, arrays below ``/#refs#``."""
    with h5py.File(path, "w", userblock_size=_ROOM) as file:
        arrays = file.create_group("#refs#")
        value = file.create_group("value")
        value.attrs["MATLAB_class"] = np.bytes_("struct")

        def put(name: str, values: np.ndarray, kind: str) -> h5py.Reference:
            array = arrays.create_dataset(name, data=values)
            array.attrs["MATLAB_class"] = np.bytes_(kind)
            return array.ref

        def text(name: str, words: str) -> h5py.Reference:
            return put(name, np.array([[ord(letter)] for letter in words], dtype=np.uint16), "char")

        def cell(group: h5py.Group, name: str, references: Sequence[h5py.Reference]) -> h5py.Reference:
            table = np.array(list(references), dtype=h5py.ref_dtype).reshape(-1, 1)
            made = group.create_dataset(name, data=table, dtype=h5py.ref_dtype)
            made.attrs["MATLAB_class"] = np.bytes_("cell")
            return made.ref

        lists: dict[str, list[h5py.Reference]] = {"gt": [], "id": [], "img": [], "target": []}
        for number, one in enumerate(pictures):
            # MATLAB counts the first axis fastest, HDF5 the last.
            lists["img"].append(put(f"img{number}", one.image.transpose(2, 1, 0), "uint8"))
            mask = put(f"mask{number}", one.mask.transpose(1, 0), "uint8")
            lists["gt"].append(cell(arrays, f"gt{number}", [mask]))
            lists["id"].append(text(f"id{number}", one.name))
            lists["target"].append(text(f"target{number}", one.name.partition("_")[0]))
        for name, references in lists.items():
            cell(value, name, references)
    with open(path, "r+b") as file:
        file.write(_HEADER)
