"""What metrics take: finite maps, and masks that say yes or no. Anything else would be scored as a share of itself."""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError


def as_relevance(maps: Tensor, name: str = "maps") -> Tensor:
    """Maps (N, ...) as real floating-point numbers.

    Raises:
        InputError: a map has NaN or infinity, or maps are complex.
    """
    if maps.is_complex():
        raise InputError(f"{name}: relevance must be real, not {maps.dtype}")
    if not maps.is_floating_point():
        return maps.double()  # unsigned numbers have no negative, which sorting takes
    finite = maps.isfinite()
    if not finite.all():
        wrong = ~finite.flatten(1).all(1)
        raise InputError(
            f"{name}: map {int(wrong.int().argmax())} contains NaN or infinity ({int(wrong.sum())} of {len(maps)} maps "
            "do) and has no order of pixels; mend the method that made it, or leave the image out of all methods"
        )
    return maps


def as_mask(mask: Tensor, name: str = "mask") -> Tensor:
    """A mask of booleans, or of numbers 0 and 1, as booleans.

    Raises:
        InputError: it has other values: 255 as pictures have it, labels, shares.
    """
    if mask.dtype == torch.bool:
        return mask
    inside = mask == 1
    other = mask[~inside & (mask != 0)]
    if other.numel():
        raise InputError(
            f"{name}: holds {other[0].item():g}, but a mask is boolean, or 0 and 1; give {name} > 0 of a picture of 0 "
            f"and 255, {name} == label of a map of labels, {name} >= 0.5 of shares"
        )
    return inside


def as_labels(labels: Tensor, name: str) -> Tensor:
    """A map of labels, whole numbers from 0, as int64.

    Raises:
        InputError: one is negative or no whole number.
    """
    whole = labels.long()
    wrong = labels[(whole != labels) | (whole < 0)]
    if wrong.numel():
        raise InputError(f"{name}: holds {wrong[0].item():g}, but labels are whole numbers from 0, the background")
    return whole
