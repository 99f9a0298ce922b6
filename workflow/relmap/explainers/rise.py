r"""RISE (Petsiuk et al. 2018): the mean of random masks, each weighed by the target's score of the masked image.

.. math:: R(p) = \frac{1}{n\,P(c = 1)} \sum_{k=1}^n s_t(x * M_k)\, M_k(p)

A mask M is a square grid of cells c, each kept (1) or not (0) at random, enlarged bilinearly and cut out at a random
shift; what is masked becomes 0 in normalised space, the mean colour. Two readings, by ``cells`` and ``border``:

- TorchRay's, 7 x 7 cells kept with probability 1/2, ``reflect``: the grid is mirrored at its border; a cell has
  :math:`\lceil (H + \lceil H/7 \rceil) / 7 \rceil` pixels, the shift is less than :math:`\lceil H/7 \rceil`. Its scores
  are the logits' sigmoids: its networks tell classes independently. Its map is not divided by P(c = 1).
- the C3-LRP group's (keio-smilab24/LRP-for-ResNet), 9 x 9, ``replicate``, softmax probabilities: the grid has
  :math:`10 \lceil H/9 \rceil` pixels, its outermost cells half a cell more; the shift is less than
  :math:`\lceil H/9 \rceil`. A cell is kept where normal noise is below p = 0.3, so with probability
  :math:`\Phi(0.3) = 0.618`, yet sums are divided by n p; each map is rescaled to [0, 1] afterwards.

Mask k follows from the seed and k: it is the same for all images, a longer run begins with a shorter one's masks, and
images of another size see the same cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.job.seeds import generator
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Propagator

SCORES = {"sigmoid": torch.sigmoid, "softmax": lambda scores: scores.softmax(1)}


class RISE(Explainer):
    """All masks on all images, by plain forward passes that the targets share.

    Args:
        propagator: of the model.
        masks: n.
        cells: of a mask's side.
        keep: probability that a cell is kept.
        divisor: what stands for it in the map's scale; ``keep`` by default.
        border: how masks are enlarged, ``reflect`` or ``replicate``.
        score: ``sigmoid`` or ``softmax`` of the logits; of a score map's pooled scores.
        rescale: whether each map is brought to [0, 1]; a constant one becomes 0.
        seed: of the masks.
        batch: masked images of one forward pass; never fewer than there are images. It does not change the map.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        masks: int = 8000,
        cells: int = 7,
        keep: float = 0.5,
        divisor: float | None = None,
        border: Literal["reflect", "replicate"] = "reflect",
        score: Literal["sigmoid", "softmax"] = "sigmoid",
        rescale: bool = False,
        seed: int = 0,
        batch: int = 64,
    ) -> None:
        for name, value, least in (("masks", masks, 1), ("cells", cells, 2), ("batch", batch, 1)):
            if value < least:
                raise InputError(f"RISE: {name} is {value}; give at least {least}")
        if not 0 < keep <= 1:
            raise InputError(f"RISE: keep is {keep}; give a probability above 0")
        for name, value, known in (("border", border, ("reflect", "replicate")), ("score", score, tuple(SCORES))):
            if value not in known:
                raise InputError(f"RISE: {name} {value!r} is unknown; choose one of {', '.join(known)}")
        self.propagator, self.masks, self.cells, self.keep = propagator, masks, cells, keep
        self.divisor = keep if divisor is None else divisor
        self.border, self.score, self.rescale, self.seed, self.batch = border, SCORES[score], rescale, seed, batch

    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point() or images.dim() != 4:
            raise InputError(
                f"RISE: the input is {images.dtype} of shape {tuple(images.shape)}, and its masks are of pictures; "
                "give images (N, C, H, W)"
            )
        total = torch.zeros(*targets.shape, *images.shape[2:], dtype=torch.float64, device=images.device)
        for masks in self.drawn(tuple(images.shape[2:]), max(1, self.batch // len(images))):
            masks = masks.to(images)
            masked = images.unsqueeze(1) * masks.unsqueeze(1)  # (N, m, C, H, W)
            logits = self.propagator.forward(masked.flatten(0, 1)).logits
            scores = self.score(pooled_scores(logits)).unflatten(0, masked.shape[:2])
            of_targets = scores.gather(2, targets.unsqueeze(1).expand(-1, len(masks), -1))
            total += torch.einsum("nmk,mhw->nkhw", of_targets, masks)
        maps = total / (self.masks * self.divisor)
        return (_rescaled(maps) if self.rescale else maps).to(images.dtype)

    def drawn(self, size: tuple[int, int], count: int) -> Iterator[Tensor]:
        """The masks (m, H, W) in float64 in their order, ``count`` at a time."""
        # A row of uniform numbers for each mask: its cells, and where it is cut out.
        draws = torch.rand(self.masks, self.cells**2 + 2, generator=generator(self.seed, "rise"), dtype=torch.float64)
        enlarge = [enlargement(self.cells, side, self.border) for side in size]
        for rows in draws.split(count):
            kept = (rows[:, 2:] < self.keep).double().unflatten(1, (self.cells, self.cells))
            cut = []
            for axis, side in enumerate(size):
                shift = (rows[:, axis] * -(-side // self.cells)).long()
                cut.append(enlarge[axis][shift[:, None] + torch.arange(side)])  # (m, side, cells)
            yield cut[0] @ kept @ cut[1].mT


class KeioRISE(RISE):
    """The C3-LRP group's reading.

    Args:
        propagator, masks, seed, batch: as for ``RISE``.
    """

    def __init__(self, propagator: Propagator, *, masks: int = 5000, seed: int = 0, batch: int = 64) -> None:
        below = 0.3
        keep = NormalDist().cdf(below)
        reading = {"cells": 9, "border": "replicate", "score": "softmax", "rescale": True}
        super().__init__(propagator, masks=masks, keep=keep, divisor=below, seed=seed, batch=batch, **reading)


def enlargement(cells: int, side: int, border: str) -> Tensor:
    """The bilinear enlargement of a grid's side as a matrix (pixels, cells), for images of this side and all shifts."""
    identity = torch.eye(cells, dtype=torch.float64).unsqueeze(1)
    shifts = -(-side // cells)
    if border == "replicate":
        enlarged = F.interpolate(identity, (cells + 1) * shifts, mode="linear", align_corners=False)
        return enlarged[:, 0].T
    pixels = -(-(side + shifts) // cells)
    padded = F.pad(identity, (1, 1), mode="reflect")
    enlarged = F.interpolate(padded, (cells + 2) * pixels, mode="linear", align_corners=False)
    return enlarged[:, 0, pixels : pixels + side + shifts].T


def _rescaled(maps: Tensor) -> Tensor:
    """Each map (N, K, H, W) from 0 to 1."""
    low, high = maps.flatten(2).aminmax(dim=2)
    span = (high - low)[..., None, None]
    return (maps - low[..., None, None]) / torch.where(span > 0, span, 1)
