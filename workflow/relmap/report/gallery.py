"""The gallery's part of the page: what ``relmap.figures.packing`` left, with names for readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relmap.errors import InputError
from relmap.figures.colours import as_pixels, tint
from relmap.figures.tiles import INDEX, SIDE
from relmap.job.files import read_json


def read(folder: Path) -> dict[str, Any] | None:
    """The index of a gallery; None when there is none.

    Raises:
        InputError: it is there and broken.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    index = read_json(path)
    if not isinstance(index, dict) or not {"seed", "images", "settings"} <= index.keys():
        raise InputError(f"{path}: not the index of a gallery; delete the folder and run again")
    return index


def for_page(results: Path, label: Callable[[str], str], leaks: Mapping[Any, str]) -> dict[str, Any] | None:
    """What the page says and shows of the gallery; None when there is none.

    Args:
        results: the run's folder.
        label: names of ids for readers.
        leaks: (data set, model, method) -> how much of the relevance is lost, in words.
    """
    index = read(results / "gallery")
    if index is None:
        return None
    return {
        "seed": index["seed"],
        "images": index["images"],
        "side": SIDE,
        "scales": {"signed": _gradient(signed=True), "unsigned": _gradient(signed=False)},
        "settings": [_named(setting, label, leaks) for setting in index["settings"]],
    }


def _named(setting: Mapping[str, Any], label: Callable[[str], str], leaks: Mapping[Any, str]) -> dict[str, Any]:
    """A data set and network of the index, with labels and leaks."""
    dataset, model = setting["dataset"], setting["model"]
    methods = [
        {"id": method, "label": label(method), "leak": leaks.get((dataset, model, method))}
        for method in setting["methods"]
    ]
    names = {"dataset_label": label(dataset), "model_label": label(model)}
    return {"dataset": dataset, "model": model, **names, "methods": methods, "examples": setting["examples"]}


def _gradient(signed: bool) -> str:
    """A colour scale as CSS."""
    levels = np.linspace(-1 if signed else 0, 1, 9)
    stops = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in as_pixels(tint(levels[None], signed))[0].tolist())
    return f"linear-gradient(to right, {', '.join(stops)})"
