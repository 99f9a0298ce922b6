r"""Pictures with two classes (Figures 7, 8 and 16), of two confidently classified images: halves side by side.

A picture's left half is the middle of one image, its right half the middle of another, of another class. The map of
each class should lie in its half: of relevance :math:`R^k` of the class in half :math:`H_k`

.. math:: share = \frac{1}{2} \sum_{k=1}^{2} \frac{\sum_{i \in H_k} (R^k_i)^+}{\sum_i (R^k_i)^+}

A map that is the same for both classes has a share of 1/2, whatever it is; one without positive relevance has 0.
"""

from __future__ import annotations

import pandas as pd
import torch
from relmap.errors import InputError
from relmap.inspection.comparison import spread_over_classes
from relmap.metrics.relevance_mass import mass_accuracy
from torch import Tensor

SIDES = ("left", "right")


def class_pairs(targets: pd.DataFrame, count: int, confidence: float, seed: int) -> pd.DataFrame:
    """Pairs of images of different classes, each image in one pair at most, drawn once for all: fewer begin the same.

    Args:
        targets: pairs of image and target, with present and probability.
        count: at most so many.
        confidence: least probability of the label.
        seed: of the draw.

    Returns:
        left, right (image ids), left_target, right_target.

    Raises:
        InputError: there is not one.
    """
    sure = targets[targets["present"] & (targets["probability"] >= confidence)]
    turns = spread_over_classes(sure, len(sure), seed)[["image_id", "target"]]
    halves = [turns.iloc[place : len(turns) // 2 * 2 : 2].reset_index(drop=True) for place in range(2)]
    pairs = pd.DataFrame(
        {side: half["image_id"] for side, half in zip(SIDES, halves, strict=True)}
        | {f"{side}_target": half["target"] for side, half in zip(SIDES, halves, strict=True)}
    )
    pairs = pairs[pairs["left_target"] != pairs["right_target"]][:count].reset_index(drop=True)
    if pairs.empty:
        raise InputError(
            f"config: `abslrp.classes.confidence` {confidence} leaves {len(sure)} images of "
            f"{sure['target'].nunique()} classes, too few for one picture of two; lower it, or train the network longer"
        )
    return pairs


def composed(left: Tensor, right: Tensor) -> Tensor:
    """The middle columns of both images (N, C, H, W) side by side, (N, C, H, W); the right half has an odd column."""
    width = left.shape[-1]
    half = width // 2
    starts = (width - half) // 2, half // 2
    return torch.cat([left.narrow(-1, starts[0], half), right.narrow(-1, starts[1], width - half)], -1)


def halves(height: int, width: int) -> Tensor:
    """Where the left and the right image are: (2, H, W) bool."""
    left = (torch.arange(width) < width // 2).expand(height, width)
    return torch.stack([left, ~left])


def own_shares(maps: Tensor) -> Tensor:
    """Shares of positive relevance in each class's half: maps (N, 2, H, W) of the left and right class, to (N, 2)."""
    regions = halves(*maps.shape[-2:]).to(maps.device)
    found = [mass_accuracy(maps[:, side], regions[side].expand(len(maps), -1, -1)) for side in range(2)]
    return torch.stack(found, 1)
