"""What a training leaves on disk: weights, card and curves, and no checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from relmap.data.images import Preprocessing
from relmap.data.manifest import Manifest
from relmap.models.card import ModelCard, save_model
from relmap.models.sources import accuracies
from relmap.models.training import Fit, write_history


def checkpoint_of(weights: str | os.PathLike) -> Path:
    """Where a training keeps what it goes on from."""
    return Path(f"{weights}.checkpoint")


def write_trained(
    model: nn.Module,
    fit: Fit,
    weights: str | os.PathLike,
    history: str | os.PathLike,
    *,
    manifest: Manifest,
    preprocessing: Preprocessing,
    workers: int = 1,
    multi_label: bool = False,
    **said: Any,
) -> ModelCard:
    """Measure a trained network on its splits, and write its files; the checkpoint goes last.

    Args:
        model, fit: the network with the weights that were kept, and its history.
        weights, history: where they go; the card lies beside the weights.
        manifest: the data set that it was trained on.
        preprocessing: what it sees of a picture.
        workers: threads that read pictures.
        multi_label: whether it tells the classes of a picture independently.
        said: what else the card says: architecture, width, input_size, origin.

    Returns:
        The card as written.
    """
    card = ModelCard(
        classes=len(manifest.info.class_names),
        preprocessing=preprocessing.to_dict(),
        dataset=manifest.info.dataset,
        class_names=manifest.info.class_names,
        accuracies=accuracies(model, manifest, preprocessing, workers=workers, multi_label=multi_label),
        multi_label=multi_label,
        **said,
    )
    write_history(fit.history, history)
    card = save_model(model, weights, card)
    checkpoint_of(weights).unlink(missing_ok=True)
    return card
