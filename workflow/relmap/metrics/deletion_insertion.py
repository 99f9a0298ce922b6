r"""Deletion and insertion: the target's probability while the most relevant pixels go, or come (Petsiuk et al. 2018).

With A_n the n most relevant of a picture's P pixels, x the picture, b what stands for absent pixels, and p the softmax
probability of the target,

.. math::
    i_n = x\,1_{A_n} + b\,(1 - 1_{A_n}), \quad d_n = b\,1_{A_n} + x\,(1 - 1_{A_n}), \quad
    \mathrm{AUC} = \int_0^1 p(i_{tP})\,dt,

and p(d) likewise, by the trapezoid rule: insertion is better where higher, deletion where lower. Two protocols:

``score``, UCAG's (Section 4.2 and released code; RISE's with another blur): a step is some rows of pixels, 8 in the
paper, the last one may be smaller and weighs as the others do; pixels come into the blurred picture, and go to the
data's mean, 0 after normalisation. Rows ``deletion_probability`` and ``insertion_probability``; their level is the
share of steps done.

``score_black``, C3-LRP's (Eq. 5 and 6): b is black both ways, n = round(k P / T), k = 0 to T. Rows
``insertion_black_probability``, ``deletion_black_probability``, their level is n / P, and ``id_score``, insertion less
deletion. The group's released code differs in two things. It takes all pixels at or above the n-th value: these are
the rows that end in ``_at_once``, see :mod:`relmap.metrics.ranking`. And its pictures begin at 501 pixels of 224 x 224
and go on by 500 to all of them, with no untouched start: ``points: released``, whose levels are evenly spaced.

What ties are worth: with all at once a constant map has p(x) for every n > 0 in insertion and p(b) in deletion. That is
the best that a map can have where p rises from b to x: exactly so with the released points, and up to the first
trapezoid's half with the paper's, of which n = 0 is one.

Cost: a forward pass for each distinct picture of a map. Rules of ties, and both ends, share theirs: what ``at_once``
takes are the first so many pixels of the strict order, and i_P is d_0. Batches are full, across images and steps.
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
from relmap.evidence.statistics import area_under
from relmap.metrics.insertion_blur import gaussian_blur
from relmap.metrics.lerf import filler_values
from relmap.metrics.prediction import target_probabilities
from relmap.metrics.ranking import TIES, entry_ranks, taken

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

INSERTION, DELETION = 0, 1
# Pixels of maps whose pictures are made together: bounds the memory of ranks and blurred pictures.
_PIXELS_AT_ONCE = 1 << 24
# Pixels of a step of the released points, of the reference's pixels, in 100 steps.
_RELEASED_STEP, _RELEASED_PIXELS = 500, 224 * 224


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``deletion_probability`` and ``insertion_probability``, of ``images`` of the case."""
    settings = case.settings["deletion_insertion"]
    case = case.of_some_images(settings["images"])
    relevance = case.of(maps)
    height, width = relevance.shape[1:]
    counts, levels = even_points(height * width, settings["rows"], width)
    found = [
        probabilities(
            case.model,
            images,
            some,
            targets,
            counts,
            gaussian_blur(images, settings["kernel"], settings["sigma"], "deletion_insertion"),
            torch.zeros(images.shape[1], device=images.device),
            (case.settings["ties"],),
            case.batch_size,
        )[:, 0]
        for images, some, targets in _chunks(case, relevance)
    ]
    curves = _joined(found, (2, len(counts)))
    rows = {"deletion_probability": DELETION, "insertion_probability": INSERTION}
    return pd.concat([case.tidy(method, name, curves[:, at], levels) for name, at in rows.items()], ignore_index=True)


def score_black(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows of both rules of ties, of ``images`` of the case."""
    settings = case.settings["deletion_insertion_black"]
    case = case.of_some_images(settings["images"])
    relevance = case.of(maps)
    counts, levels = points(relevance.shape[1] * relevance.shape[2], settings["steps"], settings["points"])
    black = filler_values("black", case.preprocessing.mean, case.preprocessing.std)
    found = [
        probabilities(case.model, images, some, targets, counts, black, None, TIES, case.batch_size)
        for images, some, targets in _chunks(case, relevance)
    ]
    curves = _joined(found, (len(TIES), 2, len(counts)))
    rows = []
    for rule, suffix in enumerate(("", "_at_once")):
        both = curves[:, rule]
        rows += [
            case.tidy(method, f"insertion_black_probability{suffix}", both[:, INSERTION], levels),
            case.tidy(method, f"deletion_black_probability{suffix}", both[:, DELETION], levels),
            case.tidy(method, f"id_score{suffix}", area_under(both[:, INSERTION] - both[:, DELETION], levels)),
        ]
    return pd.concat(rows, ignore_index=True)


def even_points(total: int, rows: float, width: int) -> tuple[list[int], list[float]]:
    """Numbers of pixels by steps of ``rows`` rows of ``width``, from none to all ``total``; the share of steps done."""
    step = max(1, round(rows * width))
    steps = math.ceil(total / step)
    return [min(k * step, total) for k in range(steps + 1)], [k / steps for k in range(steps + 1)]


def points(total: int, steps: int, kind: str = "paper") -> tuple[list[int], list[float]]:
    """Numbers of pixels of ``steps`` steps, and the levels that they stand at.

    Args:
        total: pixels of a picture.
        steps: number T of steps.
        kind: ``paper``, k / T of the pixels, halves up, from none to all; ``released``, one more than multiples of a
            step, 500 pixels of 224 x 224 for T = 100, up to all of them, evenly spaced.

    Raises:
        InputError: another kind, or more steps than pixels.
    """
    if steps > total:
        raise InputError(f"config: `evaluation.deletion_insertion_black.steps` is {steps}; give at most {total} here")
    if kind == "paper":
        counts = [(2 * k * total + steps) // (2 * steps) for k in range(steps + 1)]
        return counts, [n / total for n in counts]
    if kind == "released":
        step = max(1, round(total * _RELEASED_STEP * 100 / (_RELEASED_PIXELS * steps)))
        inputs = max(2, math.ceil((total - 1) / step))
        return [min(step * (k + 1) + 1, total) for k in range(inputs)], [(k + 1) / inputs for k in range(inputs)]
    raise InputError(f"config: `evaluation.deletion_insertion_black.points` is {kind!r}; choose paper or released")


def probabilities(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    counts: Sequence[int],
    inserted_into: Tensor,
    deleted_to: Tensor | None = None,
    ties: Sequence[str] = ("strict",),
    batch_size: int = 64,
) -> Tensor:
    """The target's probability of pictures in which the most relevant pixels are inserted, or deleted.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K), or a score map of each class.
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance.
        targets: (N,) classes.
        counts: numbers n of pixels, T of them, 0 to P = H W.
        inserted_into: what pixels are inserted into, pictures (N, C, H, W) or values of the channels (C,), normalised.
        deleted_to: what deleted pixels become, likewise; None for the same, whose pictures are then seen once.
        ties: rules, see :mod:`relmap.metrics.ranking`.
        batch_size: pictures of a forward pass. It bounds the memory and does not change the result.

    Returns:
        (N, rules, 2, T) float64 on the images' device; of the third axis ``INSERTION`` and ``DELETION``.

    Raises:
        ValueError: maps, targets or what stands behind do not fit the images, or a number that is not one of pixels.
        InputError: a map, or a score that the model gives, is not finite.
    """
    total, device = maps[0].numel() if len(maps) else 0, images.device
    if maps.shape != (len(images), *images.shape[2:]) or targets.shape != maps.shape[:1]:
        raise ValueError(f"maps {tuple(maps.shape)} or targets do not fit images {tuple(images.shape)}")
    if not len(maps):
        return torch.empty(0, len(ties), 2, len(counts), dtype=torch.float64, device=device)
    if min(counts) < 0 or max(counts) > total:
        raise ValueError(f"counts from {min(counts)} to {max(counts)} are none of {total} pixels")
    maps, targets = maps.to(device), targets.to(device)
    ranks = entry_ranks(maps)
    wanted = torch.stack([taken(maps, torch.tensor(counts), rule, ranks) for rule in ties], dim=1)
    keys = _distinct(wanted, total, deleted_to is None)
    behind = [_behind(b, images) for b in (inserted_into, inserted_into if deleted_to is None else deleted_to)]
    images = images.contiguous()  # chosen pixel by pixel faster so than channels last
    found = torch.empty(keys.shape, dtype=torch.float64, device=device)
    for side in (INSERTION, DELETION):
        chosen = keys % 2 == side
        own, places = torch.unique(keys[chosen] // 2, return_inverse=True)
        pictures = _Pictures(images, ranks, behind[side], own, side)
        found[chosen] = target_probabilities(model, targets[own // (total + 1)], pictures, batch_size)[places]
    return found


def _distinct(wanted: Tensor, total: int, same: bool) -> Tensor:
    """Which picture each one is: (N, rules, T) numbers of pixels -> (N, rules, 2, T) keys, equal for equal pictures.

    A key is (pair * (P + 1) + n) * 2 + side. Whole pictures are those with nothing deleted; where both sides have the
    ``same`` behind them, empty ones are those with nothing inserted.
    """
    n = wanted.unsqueeze(2).expand(-1, -1, 2, -1)
    side = torch.arange(2, device=wanted.device).view(1, 1, 2, 1).expand_as(n)
    turned = (n == total) & ((side == INSERTION) | same)
    n, side = n.masked_fill(turned, 0), torch.where(turned, 1 - side, side)
    pair = torch.arange(len(wanted), device=wanted.device).view(-1, 1, 1, 1)
    return (pair * (total + 1) + n) * 2 + side


def _behind(given: Tensor, images: Tensor) -> Tensor:
    """Pictures (N, C, H, W), or (C, 1, 1)."""
    given = given.to(images)
    if given.shape == images.shape:
        return given.contiguous()
    if given.shape != images.shape[1:2]:
        raise ValueError(f"pixels of {tuple(given.shape)} do not fit images {tuple(images.shape)}")
    return given.view(-1, 1, 1)


class _Pictures:
    """Pictures by their positions among ``own``, pair * (P + 1) + n, ascending."""

    def __init__(self, images: Tensor, ranks: Tensor, behind: Tensor, own: Tensor, side: int) -> None:
        self.images, self.ranks, self.behind, self.own, self.side = images, ranks, behind, own, side

    def __call__(self, positions: Tensor) -> Tensor:
        total = self.ranks[0].numel()
        own = self.own[positions]
        pair, n = own // (total + 1), (own % (total + 1)).to(self.ranks.dtype)
        first = (self.ranks.index_select(0, pair) < n.view(-1, 1, 1)).unsqueeze(1)
        sharp = self.images.index_select(0, pair)
        behind = self.behind if self.behind.ndim == 3 else self.behind.index_select(0, pair)
        return torch.where(first, sharp, behind) if self.side == INSERTION else torch.where(first, behind, sharp)


def _chunks(case: Case, relevance: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Images, maps and targets of few pairs at a time."""
    if not len(relevance):
        return []
    rows = max(1, _PIXELS_AT_ONCE // relevance[0].numel())
    return list(zip(*(tensor.split(rows) for tensor in (case.images, relevance, case.targets)), strict=True))


def _joined(found: Sequence[Tensor], shape: tuple[int, ...]) -> np.ndarray:
    """Curves of all chunks on the CPU; maybe of none."""
    return np.concatenate([np.empty((0, *shape)), *(part.cpu().numpy() for part in found)])
