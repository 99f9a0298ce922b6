"""What notebooks read of a run whose images may have several targets: pairs, scores, maps, examples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from relmap.errors import InputError
from relmap.evidence.evaluation import places_of
from relmap.evidence.maps import open_maps
from relmap.figures.results import Setting
from relmap.job.parquet import read_parquet

Pair = tuple[str, int]


class Place(Setting):
    """A data set and model whose images may have several targets."""

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Rows image_id, target, present, predicted and so on, one a pair."""
        return read_parquet(self.results / "targets" / self.dataset / f"{self.model}.parquet")

    def scores(self, metric: str) -> pd.DataFrame:
        """Score rows of a metric's file."""
        return read_parquet(self.results / "scores" / self.dataset / self.model / f"{metric}.parquet")

    def maps_of(self, methods: Sequence[str], pairs: Sequence[Pair]) -> dict[Pair, dict[str, np.ndarray]]:
        """Maps of some pairs: pair -> method -> (H, W) float32; methods without a store are left out.

        Raises:
            InputError: a store lacks one of the pairs.
        """
        found: dict[Pair, dict[str, np.ndarray]] = {pair: {} for pair in pairs}
        for method in methods:
            path = self.results / "maps" / self.dataset / self.model / f"{method}.zarr"
            if path.is_dir() and found:
                store = open_maps(path)
                places = places_of(store, *zip(*found, strict=True))
                for pair, values, size in zip(found, store.at(places), store.sizes[places], strict=True):
                    found[pair][method] = values[: size[0], : size[1]]
        return found


def having(results: str | os.PathLike, dataset: str, models: Sequence[str], method: str) -> list[Place]:
    """The places of a data set that have maps of a method, in the order of ``models``."""
    stores = [(model, Path(results) / "maps" / dataset / model / f"{method}.zarr") for model in models]
    return [Place(results, dataset, model) for model, store in stores if store.is_dir()]


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file.

    Raises:
        InputError: there is no such file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; run the rule that makes it")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def examples(pairs: pd.DataFrame, labels: int, images: int, seed: int = 0) -> list[Pair]:
    """Pairs of images with so many labels (2: at least two), all rightly predicted, drawn over the classes.

    Images are taken in the order of their least probability, the surest first, each with another set of classes as long
    as there are others; all labels of an image come together.
    """
    present = pairs[pairs["present"]]
    grouped = present.groupby("image_id").agg(
        count=("target", "size"),
        right=("predicted", "all"),
        least=("probability", "min"),
        kinds=("target", lambda targets: tuple(sorted(targets))),
    )
    fits = grouped["count"] == 1 if labels == 1 else grouped["count"] >= labels
    pool = grouped[fits].sort_values(["right", "least"], ascending=[False, False], kind="stable")
    order = pool.assign(repeated=pool.duplicated("kinds")).sort_values(["repeated"], kind="stable")
    chosen = order.index[:images]
    own = present.set_index("image_id")["target"]
    return [(image, int(target)) for image in chosen for target in np.atleast_1d(own.loc[image])[:3]]
