r"""How well a map segments the object: average precision, pixel accuracy and IoU, by two protocols.

Both judge the object and its background at once: each pixel gives two scores, one for each, and of the 2 H W scores
those H W are right that the segmentation has. Average precision is the sum over thresholds of recall gained times
precision, pixels of equal score together.

- Chefer et al. 2021 (Table 3 of AE): with R brought to [0, 1], the scores are 1 - R and R. For pixel accuracy and IoU
  the object is where R exceeds its mean.
- AGF (Gur et al. 2021): the object is where the map is positive, and the scores are 0 and 1. With pixel accuracy a,
  average precision is then a^2 + (1 - a) / 2, which is nowhere below 7/16.

All numbers are an image's own, and tables print their means. IoU is the mean over object and background; the authors
print a pooled one, intersections summed over the set over unions summed over it, which no mean over images gives: large
objects count more there. Pixel accuracy is the same either way, images being of one size.

A constant map is no opinion: its scores are all equal, average precision 1/2, and nothing exceeds the mean. Where the
mask is empty there is no object to find: NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from relmap.metrics.checks import as_mask, as_relevance
from relmap.metrics.chunks import by_chunks
from relmap.metrics.scaling import to_unit

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

# Of a map's largest magnitude: a constant map's rounded mean must not be exceeded.
_ROUNDING = 1e-12


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``soft_average_precision``, ``agf_average_precision``; ``pixel_accuracy_`` and ``iou_``, each of the map
    ``above_mean`` and ``above_zero``."""
    relevance, masks = case.of(maps).to(case.device), case.masks.to(case.device)
    rows = {"soft_average_precision": soft_average_precision(relevance, masks)}
    rows["agf_average_precision"] = agf_average_precision(relevance, masks)
    for name, chosen in (("above_mean", above_mean(relevance)), ("above_zero", as_relevance(relevance) > 0)):
        rows[f"pixel_accuracy_{name}"] = pixel_accuracy(chosen, masks)
        rows[f"iou_{name}"] = mean_iou(chosen, masks)
    empty = ~masks.flatten(1).any(1)
    parts = [case.tidy(method, name, values.masked_fill(empty, torch.nan)) for name, values in rows.items()]
    return pd.concat(parts, ignore_index=True)


def average_precision(scores: Tensor, right: Tensor) -> Tensor:
    """Sum of recall gained times precision over falling thresholds, equal scores together.

    Args:
        scores: (N, M).
        right: (N, M) bool.

    Returns:
        (N,) float64; NaN where nothing is right.
    """
    values, order = scores.sort(dim=1, descending=True)
    found = right.gather(1, order).cumsum(1)
    ends = torch.ones_like(right)
    ends[:, :-1] = values[:, 1:] != values[:, :-1]
    at_ends = torch.where(ends, found, 0)
    before = torch.zeros_like(found)
    before[:, 1:] = at_ends[:, :-1].cummax(1).values
    precision = found.double() / torch.arange(1, scores.shape[1] + 1, device=scores.device)
    gained = torch.where(ends, found - before, 0)
    return (gained * precision).sum(1) / found[:, -1]


def soft_average_precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Average precision of 1 - R and R against background and object, R the map brought to [0, 1].

    Args:
        maps: (N, H, W) relevance, signed.
        masks: (N, H, W) bool, or 0 and 1: the object.

    Returns:
        (N,) float64.

    Raises:
        ValueError: shapes differ.
        InputError: a map that is not finite, or a mask with other values.
    """
    return by_chunks(_soft, as_relevance(maps).flatten(1), _flat(maps, masks))


def _soft(maps: Tensor, objects: Tensor) -> Tensor:
    scaled = to_unit(maps)
    return average_precision(torch.cat([1 - scaled, scaled], dim=1), torch.cat([~objects, objects], dim=1))


def agf_average_precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Average precision of the positive pixels as 0 and 1; arguments and result as in ``soft_average_precision``."""
    accuracy = pixel_accuracy(as_relevance(maps) > 0, masks)
    return accuracy.square() + (1 - accuracy) / 2


def above_mean(maps: Tensor) -> Tensor:
    """Where maps (N, H, W) exceed their mean over the image: bool; nowhere for a constant map.

    Raises:
        InputError: a map that is not finite.
    """
    return by_chunks(_exceeds_mean, as_relevance(maps).flatten(1)).view(maps.shape)


def _exceeds_mean(maps: Tensor) -> Tensor:
    exact = maps.double()
    return exact > exact.mean(1, keepdim=True) + _ROUNDING * exact.abs().amax(1, keepdim=True)


def pixel_accuracy(chosen: Tensor, masks: Tensor) -> Tensor:
    """Share of pixels that are chosen and in the mask, or neither: (N, H, W) bool twice -> (N,) float64."""
    right = chosen.flatten(1) == _flat(chosen, masks)
    return right.sum(1).double() / right.shape[1]


def overlaps(chosen: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in the intersection and in the union, each (N, 2) int64: of the background, and of the object."""
    objects, chosen = _flat(chosen, masks), chosen.flatten(1)
    both, either = (chosen & objects).sum(1), (chosen | objects).sum(1)
    total = chosen.shape[1]
    return torch.stack([total - either, both], dim=1), torch.stack([total - both, either], dim=1)


def mean_iou(chosen: Tensor, masks: Tensor) -> Tensor:
    """IoU, mean over background and object where either has a pixel: (N, H, W) bool twice -> (N,) float64."""
    intersection, union = overlaps(chosen, masks)
    return (intersection.double() / union.clamp(min=1)).sum(1) / (union > 0).sum(1)


def _flat(like: Tensor, masks: Tensor) -> Tensor:
    if like.shape != masks.shape or like.ndim != 3:
        raise ValueError(f"maps {tuple(like.shape)} and masks {tuple(masks.shape)} must both be (N, H, W)")
    return as_mask(masks, "masks").to(like.device).flatten(1)
