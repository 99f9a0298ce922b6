"""A classifier together with the images that it is asked about: what most jobs open first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from relmap.data.images import Preprocessing, batches, common_size
from relmap.data.manifest import Manifest, read_manifest
from relmap.job.device import choose_device
from relmap.models.card import ModelCard, load_model


@dataclass(frozen=True)
class Subject:
    """A loaded network, its card, and a dataset's manifest."""

    manifest: Manifest
    model: nn.Module
    card: ModelCard
    preprocessing: Preprocessing
    device: torch.device
    batch_size: int
    workers: int

    @classmethod
    def open(
        cls, manifest: str | os.PathLike, weights: str | os.PathLike, device: str, batch_size: int, workers: int = 1
    ) -> Subject:
        """Read a manifest and a network.

        Raises:
            InputError: a file is absent or broken, or the device is.
        """
        chosen = choose_device(device)
        model, card = load_model(weights, chosen)
        preprocessing = Preprocessing.from_dict(card.preprocessing)
        return cls(read_manifest(manifest), model, card, preprocessing, chosen, batch_size, workers)

    def batches(
        self, rows: np.ndarray, targets: np.ndarray | None = None, what: str = "images"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, targets) on the device, in the order of ``rows``; targets are the single labels unless given.

        Raises:
            InputError: the preprocessing leaves the images in several sizes, which have no such order.
        """
        common_size(self.manifest, rows, self.preprocessing)
        yield from (batch for batch, _ in self.placed(rows, targets, what))

    def placed(
        self, rows: np.ndarray, targets: np.ndarray | None = None, what: str | None = "images"
    ) -> Iterator[tuple[tuple[Tensor, Tensor], np.ndarray]]:
        """The same, with the places of each batch in ``rows``: images of one size come together.

        Progress is shown as that of ``what``; not at all for None.
        """
        targets = self.manifest.single_labels(rows) if targets is None else targets
        with tqdm(total=len(rows), desc=what, unit="image", mininterval=5, disable=what is None) as bar:
            for images, places in batches(self.manifest, rows, self.preprocessing, self.batch_size, self.workers):
                of_batch = torch.as_tensor(targets[places], dtype=torch.long)
                yield (images.to(self.device), of_batch.to(self.device)), places
                bar.update(len(places))


def training_rows(manifest: Manifest, per_class: int | None, seed: int) -> np.ndarray:
    """Rows of the training images, ascending: all, or ``per_class`` that carry each class, drawn once for all."""
    rows = manifest.rows("train")
    if per_class is None:
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    return np.sort(shuffled[manifest.rank_in_class(shuffled) < per_class])


def unseen_rows(manifest: Manifest, evaluated: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Rows to choose settings on, ascending: test images that no table evaluates; training images if there are none.

    At most ``count`` of them, drawn once for all.
    """
    rest = np.setdiff1d(manifest.rows("test"), evaluated)
    rest = rest if len(rest) else manifest.rows("train")
    return np.sort(np.random.default_rng(seed).permutation(rest)[:count])
