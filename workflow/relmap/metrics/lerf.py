"""Perturbing LeRF (CLAM, Section 4.3.2): the least relevant pixels are removed first, and the classifier looks again.

A good map gives its lowest relevance to pixels that the prediction does not need, so the prediction should survive
their removal. Step t of T removes the t * p pixels of lowest relevance (ties: lowest raster index first, or all at
once, see :mod:`relmap.metrics.ranking`), all channels,
and replaces them by a constant; the paper has T = 100 steps of p = 200 pixels at 224 x 224.

Cost: every (map, image, step) is one forward pass. A pixel's removal step is computed once per map by one sort; chunks
of perturbed images are then made by one comparison, and every chunk but the last is a full batch, across images and
maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relmap.metrics.prediction import top_classes
from relmap.metrics.ranking import entry_ranks

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


AT_ONCE = 1024
"""Pictures in memory at once; of 224 x 224 pixels they take 0.6 GB."""


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``lerf_correct``; their level is the step. The paper counts images that were classified rightly at first."""
    lerf, seen = case.settings["lerf"], case.preprocessing
    right = case.of_some_images(lerf["images"]).where("correct and predicted")
    pixels = pixels_at(lerf["pixels"], lerf["reference_size"], seen.crop)
    filler = filler_values(lerf["fill"], seen.mean, seen.std)
    correct = [
        lerf_correct(
            case.model,
            part.images,
            part.of(maps),
            part.targets,
            lerf["steps"],
            pixels,
            filler,
            case.batch_size,
            case.settings["ties"],
        )
        for part in right.parts(AT_ONCE)
    ]
    return right.tidy(method, "lerf_correct", torch.cat(correct), range(1, lerf["steps"] + 1))


def pixels_at(pixels: int, reference: int, size: int) -> int:
    """Pixels per step that remove the same share of a ``size`` x ``size`` image as ``pixels`` do at ``reference``."""
    return max(1, round(pixels * size**2 / reference**2))


def filler_values(name: str, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The constant that replaces removed pixels, per channel, in normalised space.

    Args:
        name: ``mean`` (the data's mean, 0 after normalisation) or ``black`` (0 before it).
        mean: the normalisation's mean per channel.
        std: its standard deviation per channel.

    Returns:
        (C,) float32.

    Raises:
        ValueError: another name.
    """
    if name == "mean":
        return torch.zeros(len(mean))
    if name == "black":
        return -torch.tensor(mean) / torch.tensor(std)
    raise ValueError(f"unknown filler {name!r}; choose mean or black")


def removal_steps(maps: Tensor, pixels_per_step: int, ties: str = "strict") -> Tensor:
    """The step (1-based) at which LeRF removes each pixel: (P, H, W) maps -> (P, H, W) int32.

    Raises:
        InputError: a map is not finite.
    """
    return entry_ranks(maps, ties, descending=False) // pixels_per_step + 1


def lerf_predictions(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    steps: int,
    pixels_per_step: int,
    filler: Tensor | float = 0.0,
    batch_size: int = 64,
    ties: str = "strict",
) -> Tensor:
    """The class predicted after each step.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K).
        images: (N, C, H, W), normalised.
        maps: (M, N, H, W), or (N, H, W) for one method.
        steps: number T of steps.
        pixels_per_step: pixels removed at each step.
        filler: what replaces them: a number, or one per channel (C,).
        batch_size: images per forward pass. It bounds the memory and does not change the result.
        ties: ``strict`` or ``at_once``, see :mod:`relmap.metrics.ranking`.

    Returns:
        (M, N, T) or (N, T) int64 on the images' device; entry t - 1 is the prediction after t steps.

    Raises:
        ValueError: maps do not fit the images, or the steps need more pixels than there are.
        InputError: a map, or a score that the model gives, is not finite.
    """
    height, width = images.shape[-2:]
    if maps.shape[-3:] != (len(images), height, width) or maps.ndim not in (3, 4):
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    if steps * pixels_per_step > height * width:
        raise ValueError(f"{steps} steps of {pixels_per_step} pixels remove more than {height} x {width} pixels")
    device = images.device
    fill = torch.as_tensor(filler, dtype=images.dtype, device=device).reshape(-1, 1, 1)
    removed_at = removal_steps(maps.reshape(-1, height, width).to(device), pixels_per_step, ties)

    def perturbed(positions: Tensor) -> Tensor:
        pair = positions // steps
        step = (positions % steps + 1).view(-1, 1, 1, 1)
        return torch.where(removed_at[pair].unsqueeze(1) > step, images[pair % len(images)], fill)

    predictions = top_classes(model, len(removed_at) * steps, perturbed, device, batch_size)
    return predictions.view(*maps.shape[:-2], steps)


def lerf_correct(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    steps: int,
    pixels_per_step: int,
    filler: Tensor | float = 0.0,
    batch_size: int = 64,
    ties: str = "strict",
) -> Tensor:
    """Whether the classifier is still right after each step.

    Pass images that are classified rightly at first; the paper counts only those. Arguments as in
    :func:`lerf_predictions`, and ``labels`` (N,).

    Returns:
        (M, N, T) or (N, T) bool. Its last entry along T gives "last accuracy", its mean along T "mean accuracy".
    """
    predictions = lerf_predictions(model, images, maps, steps, pixels_per_step, filler, batch_size, ties)
    return predictions == labels.to(predictions.device).unsqueeze(-1)
