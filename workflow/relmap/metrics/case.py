"""What a metric is given: the pairs of a data set and network, and, when it asks, pictures, annotations and network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from relmap.catalogue.methods import Method
from relmap.data.images import Preprocessing, by_size, common_size, load_boxes, load_images, load_masks, sizes_seen
from relmap.data.manifest import Manifest
from relmap.data.regions import rectangles_of
from relmap.errors import InputError
from relmap.evidence.evaluation import evaluation_rows, places_of, rows_of, tidy
from relmap.evidence.maps import Maps, MapStore

T = TypeVar("T")


@dataclass(eq=False)
class Case:
    """N pairs of image and target to be scored. What is not asked for is never read.

    Attributes:
        manifest: the data set.
        pairs: one row a pair (``evidence.evaluation.target_frame``: image_id, target, present, counted, ...).
        preprocessing: what the network sees of a picture.
        settings: the metric's own.
        model: the network on its device; None for a metric that does not need it.
        device: where to compute.
        batch_size, workers: images of one forward pass, threads that read pictures.
        seed: of the run.
        methods: id -> row of the methods that are scored, for a metric that makes maps itself.
        artifacts: id -> parameters beside a method's row, files and settings, of the methods that take artifacts.
        among: the pairs of all groups and parts, where these are one of several (``groups``, ``parts``).
    """

    manifest: Manifest
    pairs: pd.DataFrame
    preprocessing: Preprocessing
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: nn.Module | None = None
    device: str | torch.device = "cpu"
    batch_size: int = 64
    workers: int = 1
    seed: int = 0
    methods: Mapping[str, Method] = field(default_factory=dict)
    artifacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    among: pd.DataFrame | None = None

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(N,) places of the pairs' images in the manifest."""
        return rows_of(self.manifest, self.pairs["image_id"].tolist())

    @functools.cached_property
    def targets(self) -> Tensor:
        """(N,) int64 on the device."""
        return torch.from_numpy(self.pairs["target"].to_numpy(np.int64, copy=True)).to(self.device)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) height and width of what the network sees."""
        return sizes_seen(self.manifest, self.rows, self.preprocessing)

    @functools.cached_property
    def picture_sizes(self) -> np.ndarray:
        """(N, 2) height and width of the stored pictures."""
        frame = self.manifest.frame
        return np.stack([frame[side].to_numpy()[self.rows] for side in ("height", "width")], axis=1)

    def groups(self) -> list[Case]:
        """The pairs by the size of their maps: what is scored at once has one size. Asked again, the same objects."""
        return self._groups

    @functools.cached_property
    def _groups(self) -> list[Case]:
        groups = by_size(self.sizes)
        return (
            [self] if len(groups) <= 1 else [self._part(self.pairs.iloc[places], self.among_all) for places in groups]
        )

    @functools.cached_property
    def regions(self) -> tuple[np.ndarray, np.ndarray]:
        """Rectangles (K, 4) that cover the pairs' regions in the stored pictures, and whose each is: a place (K,)."""
        targets = self.pairs["target"].tolist()
        found = [rectangles_of(self.manifest, *pair) for pair in zip(self.rows.tolist(), targets, strict=True)]
        owners = np.repeat(np.arange(len(found)), [len(one) for one in found])
        return np.concatenate([np.zeros((0, 4), np.int64), *found]), owners

    @functools.cached_property
    def images(self) -> Tensor:
        """(N, 3, H, W) as the network sees them, on the device."""
        return load_images(self.manifest, self.rows, self.preprocessing, self.workers).to(self.device)

    @functools.cached_property
    def boxes(self) -> Tensor:
        """(N, H, W) bool: inside a box of the target."""
        return load_boxes(self.manifest, self.rows, self.preprocessing, self.pairs["target"].to_numpy())

    @functools.cached_property
    def masks(self) -> Tensor:
        """(N, H, W) bool: the segmentation of the target."""
        targets = self.pairs["target"].to_numpy()
        return load_masks(self.manifest, self.rows, self.preprocessing, targets, self.workers)

    def once(self, make: Callable[[Case], T]) -> T:
        """What a function makes of this case, made when first asked for: what the methods of a job share."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    @functools.cached_property
    def _made(self) -> dict[Callable[[Case], Any], Any]:
        return {}

    @functools.cached_property
    def _parts(self) -> dict[str, Case]:
        return {}

    def where(self, query: str) -> Case:
        """The pairs that a pandas query selects; asked again, the same object, so that nothing is read twice."""
        if query not in self._parts:
            self._parts[query] = self._part(self.pairs.query(query))
        return self._parts[query]

    def where_else_nan(self, query: str, values: Tensor | np.ndarray) -> np.ndarray:
        """(N, ...) float64: ``values`` of the pairs that a pandas query selects at their places, NaN at the others."""
        values = values.cpu().numpy() if isinstance(values, Tensor) else values
        everywhere = np.full((len(self.pairs), *values.shape[1:]), np.nan)
        everywhere[self.pairs.eval(query).to_numpy(dtype=bool)] = values
        return everywhere

    def _part(self, pairs: pd.DataFrame, among: pd.DataFrame | None = None) -> Case:
        return replace(self, pairs=pairs, among=self.among if among is None else among)

    def of_first_images(self, count: int) -> Case:
        """Those of these pairs that are of the first ``count`` images of all groups; maybe none."""
        return self.where(f"image_id in {self.first_images(count)}")

    def first_images(self, count: int | None) -> list[str]:
        """Ids of the first ``count`` images of all groups, of all images for None."""
        return self.among_all["image_id"].unique()[:count].tolist()

    def of_some_images(self, count: int | None) -> Case:
        """Those of these pairs that are of ``count`` images of all groups, drawn evenly over the classes; maybe none.

        The drawing is that of the images that a run evaluates: few are some of many.
        """
        if count is None:
            return self
        drawn = self.manifest.frame["image_id"].iloc[evaluation_rows(self.manifest, count, self.seed)]
        return self.where(f"image_id in {drawn.tolist()}")

    def parts(self, count: int) -> list[Case]:
        """These pairs, at most ``count`` at a time, so that their pictures are in memory one part after another."""
        if len(self.pairs) <= count:
            return [self]
        cuts = range(0, len(self.pairs), count)
        return [self._part(self.pairs.iloc[start : start + count], self.among_all) for start in cuts]

    @property
    def among_all(self) -> pd.DataFrame:
        """The pairs of all groups and parts."""
        return self.pairs if self.among is None else self.among

    def of(self, maps: Maps | MapStore) -> Tensor:
        """(N, H, W) maps of these pairs, of one size, out of a store that holds them among others.

        Raises:
            InputError: the store lacks a pair, or a map has another size than the network's image.
        """
        places = places_of(maps, self.pairs["image_id"], self.pairs["target"])
        sizes = maps.sizes[places]
        if len(sizes) and (sizes != self.sizes).any():
            raise InputError(
                f"maps of {maps.attrs.get('method')}: made for other sizes than the network takes; delete the store "
                "and run again"
            )
        if len(np.unique(sizes, axis=0)) > 1:
            raise ValueError("maps of several sizes are no tensor; take the case's groups one by one")
        height, width = sizes[0] if len(sizes) else common_size(self.manifest, self.rows, self.preprocessing)
        return torch.from_numpy(maps.at(places)[:, :height, :width])

    def tidy(
        self, method: str, name: str, values: Tensor | np.ndarray, levels: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Score rows of these pairs: ``values`` (N,), or (N, levels) with the levels' values."""
        values = values.cpu().numpy() if isinstance(values, Tensor) else values
        return tidy(self.pairs["image_id"].tolist(), self.pairs["target"], method, name, values, levels)
