r"""Insertion of the most relevant pixels before a blurred background (AE, Section 5.4 and Figure 10).

The n = round(p H W / 100) most relevant pixels of a picture are shown sharp, and the classifier says what it sees, for
p = 0, 1, ..., 20 percent. A Gaussian filter softens the edges between them and the background. The paper leaves open
what is filtered:

- ``blurred``: the picture; so the network sees a blurred picture in which pixels become sharp, and p = 0 is what the
  blurred picture is worth without a map.
- ``blank``: a blank (the data's mean) with the chosen pixels on it, which are then pasted over it sharp again.

Rows ``insertion_correct``, their level is p; ``insertion_clean``, whether the whole picture is classified rightly, by
which the paper's third panel divides. Right is a prediction that is a label of the picture.

Every (image, p) is one forward pass; chunks are full batches across images and steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.gaussian import gaussian_filter
from relmap.metrics.prediction import top_classes
from relmap.metrics.ranking import entry_ranks

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``insertion_correct`` and ``insertion_clean``."""
    settings, relevance = case.settings["insertion"], case.of(maps)
    total = relevance.shape[1] * relevance.shape[2]
    percents = [step * settings["percent"] for step in range(settings["steps"] + 1)]
    found = insertion_predictions(
        case.model,
        case.images,
        relevance,
        [pixels_at(percent, total) for percent in percents],
        settings["kernel"],
        settings["sigma"],
        settings["background"],
        case.settings["ties"],
        case.batch_size,
    )
    labels = case.manifest.label_sets(case.rows)
    right = np.array([[top in own for top in tops] for tops, own in zip(found.tolist(), labels, strict=True)])
    rows = [
        case.tidy(method, "insertion_correct", right.reshape(-1, len(percents)), percents),
        case.tidy(method, "insertion_clean", case.pairs["correct"].to_numpy(dtype=np.float64)),
    ]
    return pd.concat(rows, ignore_index=True)


def pixels_at(percent: float, total: int) -> int:
    """So many percent of ``total`` pixels, in whole ones, halves up.

    Raises:
        InputError: more than all of them.
    """
    if not 0 <= percent <= 100:
        raise InputError(f"config: `evaluation.insertion` inserts {percent:g} % of the pixels; give at most 100 in all")
    return math.floor(percent * total / 100 + 0.5)


def insertion_predictions(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    counts: Sequence[int],
    kernel: int = 11,
    sigma: float = 5.0,
    background: str = "blurred",
    ties: str = "strict",
    batch_size: int = 64,
) -> Tensor:
    """The class predicted when the most relevant pixels are sharp.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K).
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance.
        counts: numbers n of sharp pixels, T of them.
        kernel, sigma: side and standard deviation of the Gaussian filter, in pixels.
        background: ``blurred`` or ``blank``.
        ties: ``strict`` or ``at_once``, see :mod:`relmap.metrics.ranking`.
        batch_size: images per forward pass. It bounds the memory and does not change the result.

    Returns:
        (N, T) int64 on the images' device.

    Raises:
        ValueError: maps do not fit the images.
        InputError: another background or rule of ties; a map, or a score that the model gives, is not finite; a filter
            that is too wide for the images.
    """
    if maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    if background not in ("blurred", "blank"):
        raise InputError(f"config: `evaluation.insertion.background` is {background!r}; choose blurred or blank")
    ranks = entry_ranks(maps.to(images.device), ties)
    wanted = torch.tensor(list(counts), dtype=torch.int32, device=images.device)

    def inserted(positions: Tensor) -> Tensor:
        image = positions // len(wanted)
        sharp = (ranks[image] < wanted[positions % len(wanted)].view(-1, 1, 1)).unsqueeze(1)
        if background == "blurred":
            first, last = int(image[0]), int(image[-1])
            behind = gaussian_blur(images[first : last + 1], kernel, sigma)[image - first]
        else:
            behind = gaussian_blur(images[image] * sharp, kernel, sigma)
        return torch.where(sharp, images[image], behind)

    return top_classes(model, len(images) * len(wanted), inserted, images.device, batch_size).view(-1, len(wanted))


def gaussian_blur(images: Tensor, kernel: int, sigma: float, key: str = "insertion") -> Tensor:
    """Images (N, C, H, W) filtered by a Gaussian cut off at ``kernel`` x ``kernel`` pixels; borders reflect.

    ``key`` of the config's ``evaluation`` is what an error names.

    Raises:
        InputError: an even kernel, a sigma that is not positive, or an image that the kernel does not fit into.
    """
    half = kernel // 2
    if kernel % 2 == 0 or sigma <= 0 or half >= min(images.shape[2:]):
        height, width = images.shape[2:]
        raise InputError(
            f"config: `evaluation.{key}` has kernel {kernel} and sigma {sigma:g}; give an odd kernel of less than "
            f"twice the side of the images, {height} x {width} here, and a positive sigma"
        )
    return gaussian_filter(images, half, sigma, "reflect")
