"""Birds, their siblings that differ in one part, and maps of both classes: a small file that figures read. No torch."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from relmap.errors import InputError
from relmap.job.files import atomic_path


@dataclass(frozen=True, eq=False)
class Siblings:
    """N birds, each beside its sibling, from which it differs in one part.

    Attributes:
        image_ids: of the birds.
        parts: the part that differs.
        targets: (N, 2) int64, the bird's class and its sibling's.
        pictures, changed: uint8 (N, H, W, 3), the bird and its sibling as the network sees them.
        differs: bool (N, H, W), pixels that differ.
        drops: (N,) what the change takes from the logit of the bird's class.
    """

    image_ids: list[str]
    parts: list[str]
    targets: np.ndarray
    pictures: np.ndarray
    changed: np.ndarray
    differs: np.ndarray
    drops: np.ndarray


def write_siblings(siblings: Siblings, maps: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Keep them with the maps of each method, (N, 2, H, W): for the bird's class and for its sibling's, of the bird."""
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            **{name: np.asarray(value) for name, value in vars(siblings).items()},
            methods=np.array(list(maps), dtype=str),
            maps=np.stack(list(maps.values())),
        )


def read_siblings(path: str | os.PathLike) -> tuple[Siblings, dict[str, np.ndarray]]:
    """What ``write_siblings`` wrote.

    Raises:
        InputError: the file is absent or damaged.
    """
    try:
        with np.load(path) as stored:
            found = {name: stored[name] for name in stored.files}
        methods, maps = found.pop("methods").tolist(), found.pop("maps")
        siblings = Siblings(**{**found, "image_ids": found["image_ids"].tolist(), "parts": found["parts"].tolist()})
        return siblings, dict(zip(methods, maps, strict=True))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of birds and siblings ({error}); delete it and run again") from error
