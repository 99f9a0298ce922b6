"""What a metric is given: the pairs of a data set and network, and, when it asks, pictures, annotations and network."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from relmap.data.images import Preprocessing, load_boxes, load_images, load_masks
from relmap.data.manifest import Manifest
from relmap.evidence.evaluation import places_of, rows_of, tidy
from relmap.evidence.maps import Maps


@dataclass(eq=False)
class Case:
    """N pairs of image and target to be scored. What is not asked for is never read.

    Attributes:
        manifest: the data set.
        pairs: one row a pair (image_id, target, present, predicted, difficult, correct, ...).
        preprocessing: what the network sees of a picture.
        settings: the metric's own.
        model: the network on its device; None for a metric that does not need it.
        device: where to compute.
        batch_size, workers: images of one forward pass, threads that read pictures.
        seed: of the run.
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

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(N,) places of the pairs' images in the manifest."""
        return rows_of(self.manifest, self.pairs["image_id"].tolist())

    @functools.cached_property
    def targets(self) -> Tensor:
        """(N,) int64 on the device."""
        return torch.from_numpy(self.pairs["target"].to_numpy(np.int64, copy=True)).to(self.device)

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
        """(N, H, W) bool: the object's segmentation."""
        return load_masks(self.manifest, self.rows, self.preprocessing, workers=self.workers)

    @functools.cached_property
    def _parts(self) -> dict[str, Case]:
        return {}

    def where(self, query: str) -> Case:
        """The pairs that a pandas query selects; asked again, the same object, so that nothing is read twice."""
        if query not in self._parts:
            self._parts[query] = Case(
                self.manifest,
                self.pairs.query(query),
                self.preprocessing,
                self.settings,
                self.model,
                self.device,
                self.batch_size,
                self.workers,
                self.seed,
            )
        return self._parts[query]

    def of(self, maps: Maps) -> Tensor:
        """(N, H, W) maps of these pairs, out of a store that holds them among others."""
        return torch.from_numpy(maps.maps[places_of(maps, self.pairs["image_id"], self.pairs["target"])])

    def tidy(
        self, method: str, name: str, values: Tensor | np.ndarray, levels: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Score rows of these pairs: ``values`` (N,), or (N, levels) with the levels' values."""
        values = values.cpu().numpy() if isinstance(values, Tensor) else values
        return tidy(self.pairs["image_id"].tolist(), self.pairs["target"], method, name, values, levels)
