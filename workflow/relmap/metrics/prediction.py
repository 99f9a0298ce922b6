"""What a network predicts of many altered pictures, each made just before it is seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.network.score_maps import pooled_scores


def top_classes(
    model: nn.Module, count: int, altered: Callable[[Tensor], Tensor], device: torch.device, batch_size: int
) -> Tensor:
    """The class that the network is surest of, for each of ``count`` pictures.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K), or a score map of each class.
        count: number of pictures.
        altered: ascending positions (B,) among them, on the device -> pictures (B, C, H, W).
        device: where the pictures are made.
        batch_size: pictures of one forward pass. It bounds the memory and does not change the result.

    Returns:
        (count,) int64 on the device.

    Raises:
        InputError: a score that the model gives is not finite.
    """
    classes = torch.empty(count, dtype=torch.int64, device=device)
    return _read(model, classes, altered, lambda scores, positions: scores.argmax(1), batch_size)


def target_probabilities(
    model: nn.Module, targets: Tensor, altered: Callable[[Tensor], Tensor], batch_size: int
) -> Tensor:
    """The softmax probability of a class in each picture.

    Args:
        model, altered, batch_size: as in ``top_classes``.
        targets: (count,) the class of each picture, on the device where pictures are made.

    Returns:
        (count,) float64 on that device.

    Raises:
        InputError: a score that the model gives is not finite, or it has not the class.
    """
    return _of_targets(model, targets, altered, lambda scores: scores.softmax(1), batch_size)


def target_scores(model: nn.Module, targets: Tensor, altered: Callable[[Tensor], Tensor], batch_size: int) -> Tensor:
    """The score, before any softmax, of a class in each picture; as ``target_probabilities``."""
    return _of_targets(model, targets, altered, lambda scores: scores, batch_size)


def _of_targets(
    model: nn.Module,
    targets: Tensor,
    altered: Callable[[Tensor], Tensor],
    values: Callable[[Tensor], Tensor],
    batch_size: int,
) -> Tensor:
    def read(scores: Tensor, positions: Tensor) -> Tensor:
        if highest >= scores.shape[1]:
            raise InputError(f"target {highest} is none of the {scores.shape[1]} classes of the model")
        return values(scores.double()).gather(1, targets[positions].unsqueeze(1)).squeeze(1)

    highest = int(targets.max()) if len(targets) else 0
    found = torch.empty(len(targets), dtype=torch.float64, device=targets.device)
    return _read(model, found, altered, read, batch_size)


@torch.inference_mode()
def _read(
    model: nn.Module,
    found: Tensor,
    altered: Callable[[Tensor], Tensor],
    read: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
) -> Tensor:
    """``found``, filled with what is read of the scores (B, K) of each batch of pictures and their positions."""
    finite = torch.ones((), dtype=torch.bool, device=found.device)
    for start in range(0, len(found), batch_size):
        positions = torch.arange(start, min(start + batch_size, len(found)), device=found.device)
        # Channels last: convolutions of narrow networks take about half the time on CPU, and the weights are reordered
        # on the way, so that the caller's model stays as it is.
        scores = pooled_scores(model(altered(positions).contiguous(memory_format=torch.channels_last)))
        finite &= scores.isfinite().all()
        found[start : start + batch_size] = read(scores, positions)
    if not finite:
        raise InputError("the model gives NaN or infinity for some images: it predicts no class; check both for NaN")
    return found
