"""From a manifest to what training and prediction read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from relmap.data.images import Preprocessing, batches, load_pixels
from relmap.data.manifest import SPLITS, Manifest
from relmap.models import objective
from relmap.models.average_precision import mean_average_precision
from relmap.models.examples import InMemory, Normalisation, Source, Streamed
from relmap.models.inference import class_scores

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


def preprocessing_of(seen: Mapping[str, Any], resize: int, crop: int) -> Preprocessing:
    """What a network sees of a picture: ``Model.seen`` with these sides; only the fit ``crop`` crops."""
    cropped = seen.get("fit", "crop") == "crop"
    return Preprocessing(resize if cropped else crop, crop, **seen)


def training_source(
    manifest: Manifest, preprocessing: Preprocessing, workers: int = 1, *, multi_label: bool = False
) -> Source:
    """The training pictures as squares of the preprocessing's ``resize``, so that random views have room to move.

    Where the network sees whole pictures whatever their shape, they are squashed: a crop would lose labelled objects.

    Args:
        manifest: the dataset.
        preprocessing: of the network.
        workers: cores for decoding.
        multi_label: whether pictures may have several classes.
    """
    rows = manifest.rows("train")
    labels = labels_of(manifest, rows, multi_label)
    fit = "crop" if preprocessing.fit == "crop" else "squash"
    roomy = replace(preprocessing, crop=preprocessing.resize, fit=fit)
    if len(rows) * 3 * roomy.crop**2 <= IN_MEMORY_BYTES:
        return InMemory(load_pixels(manifest, rows, roomy, workers), labels)
    return Streamed(_Loader(manifest, rows, roomy), labels, workers)


def labels_of(manifest: Manifest, rows: np.ndarray, multi_label: bool) -> torch.Tensor:
    """Labels of ``rows`` as ``objective`` takes them: (N,) int64, or with ``multi_label`` (N, classes) of 0 and 1.

    Raises:
        InputError: without ``multi_label``, an image has several labels, or none.
    """
    if not multi_label:
        return torch.from_numpy(manifest.single_labels(rows))
    labels = torch.zeros(len(rows), len(manifest.info.class_names))
    for place, classes in enumerate(manifest.label_sets(rows)):
        labels[place, list(classes)] = 1
    return labels


def scores_of_rows(
    model: nn.Module,
    manifest: Manifest,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    batch_size: int = 64,
    workers: int = 1,
) -> torch.Tensor:
    """Class scores (N, classes) of the images of ``rows``, in their order, on the CPU."""
    places = []

    def images() -> Iterator[torch.Tensor]:
        for batch, where in batches(manifest, rows, preprocessing, batch_size, workers):
            places.append(torch.from_numpy(where))
            yield batch

    found = class_scores(model, images())
    return found[torch.cat(places).argsort()]


def class_probabilities(
    model: nn.Module,
    manifest: Manifest,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    batch_size: int = 64,
    workers: int = 1,
    *,
    multi_label: bool = False,
) -> torch.Tensor:
    """Class probabilities (N, classes) of the images of ``rows``, on the CPU; with ``multi_label`` each by itself."""
    scores = scores_of_rows(model, manifest, rows, preprocessing, batch_size, workers)
    return objective.probabilities(scores, multi_label)


def accuracies(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    splits: Sequence[str] = SPLITS,
    batch_size: int = 64,
    workers: int = 1,
    *,
    multi_label: bool = False,
) -> dict[str, float]:
    """How well images are classified, by split; a split without images is left out.

    ``<split>``: share of images whose highest score is a label's; or with ``multi_label``
    ``mean_average_precision_<split>``.
    """
    found = {}
    for split in splits:
        rows = manifest.rows(split)
        if len(rows):
            scores = scores_of_rows(model, manifest, rows, preprocessing, batch_size, workers)
            labels = labels_of(manifest, rows, True)
            if multi_label:
                found[f"mean_average_precision_{split}"] = mean_average_precision(scores, labels)
            else:
                found[split] = labels.gather(1, scores.argmax(1, keepdim=True)).double().mean().item()
    return found
