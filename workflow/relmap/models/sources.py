"""From a manifest to what training and prediction read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from relmap.data.images import Preprocessing, batches, load_pixels
from relmap.data.manifest import SPLITS, Manifest
from relmap.models.training import InMemory, Normalisation, Source, Streamed, evaluate, predict

# Training pictures up to this size are decoded once and kept; larger sets are decoded whenever they are needed.
IN_MEMORY_BYTES = 2 * 2**30


def normalisation_of(preprocessing: Preprocessing) -> Normalisation:
    """The normalisation of an image preprocessing."""
    return Normalisation(preprocessing.mean, preprocessing.std)


class _Loader:
    """Pictures of some rows by index, (n, 3, side, side) in [0, 1]; a class, so that worker processes can have it."""

    def __init__(self, manifest: Manifest, rows: np.ndarray, preprocessing: Preprocessing) -> None:
        self.manifest, self.rows, self.preprocessing = manifest, rows, preprocessing

    def __call__(self, indices: list[int]) -> torch.Tensor:
        return load_pixels(self.manifest, self.rows[indices], self.preprocessing, workers=1).float() / 255


def training_source(manifest: Manifest, preprocessing: Preprocessing, workers: int = 1) -> Source:
    """The training pictures, cut square at the preprocessing's ``resize``, so that random views have room to move.

    Args:
        manifest: the dataset.
        preprocessing: of the network.
        workers: cores for decoding.
    """
    rows = manifest.rows("train")
    labels = torch.from_numpy(manifest.single_labels(rows))
    roomy = Preprocessing(preprocessing.resize, preprocessing.resize, preprocessing.mean, preprocessing.std)
    if len(rows) * 3 * roomy.crop**2 <= IN_MEMORY_BYTES:
        return InMemory(load_pixels(manifest, rows, roomy, workers), labels)
    return Streamed(_Loader(manifest, rows, roomy), labels, workers)


def class_probabilities(
    model: nn.Module,
    manifest: Manifest,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    batch_size: int = 64,
    workers: int = 1,
) -> torch.Tensor:
    """Class probabilities (N, classes) of the images of ``rows``, on the CPU."""
    images = (batch for batch, _ in batches(manifest, rows, preprocessing, batch_size, workers))
    return predict(model, images)


def accuracies(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    splits: Sequence[str] = SPLITS,
    batch_size: int = 64,
    workers: int = 1,
) -> dict[str, float]:
    """Share of images classified rightly, by split; a split without images is left out."""
    found = {}
    for split in splits:
        rows = manifest.rows(split)
        if len(rows):
            images = (batch for batch, _ in batches(manifest, rows, preprocessing, batch_size, workers))
            found[split] = evaluate(model, images, torch.from_numpy(manifest.single_labels(rows)))["accuracy"]
    return found
