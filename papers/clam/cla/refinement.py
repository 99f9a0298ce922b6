r"""Refinement of relevance in mid-propagation (CLAM, Sec. 3.4 and Appendix A.1).

Each attribute chooses the patch that fits it best under the target's pattern. Inside it, relevance is multiplied by

.. math:: 1 + (s - 1) \exp\!\Big(-\frac{r^2 - r_0^2}{2 (w P)^2}\Big)

with r the distance from the patch's centre, r_0 that of the pixel nearest to it, and s the strength. Where patches
overlap the factors multiply, for each region's mask is multiplied with the relevance in it (A.1); ``maximum`` takes the
largest instead. Relevance travels on as it is: to restore its total would scale the rest of a pass by one number, which
neither the choice of sub-features nor any metric sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from papers.clam.cla.layer import best_positions
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import TrainedLayer

OVERLAPS = {"multiply": "prod", "maximum": "amax"}
"""What holds where regions overlap -> its reduction."""


@dataclass(frozen=True)
class Regions:
    """What one layer's attributes chose, for K explainers and M images.

    Attributes:
        positions: (K, M, N, 2) rows and columns of the patches' upper left corners.
        distances: (K, M, N, w, w) distance maps there.
        size: (H, W) of the feature map. patch: P.
    """

    positions: Tensor
    distances: Tensor
    size: tuple[int, int]
    patch: int

    def boxes(self, input_size: tuple[int, int]) -> Tensor:
        """(K, M, N, 4) boxes x0, y0, x1, y1 in pixels of an input of ``input_size`` (height, width)."""
        scale_y, scale_x = input_size[0] / self.size[0], input_size[1] / self.size[1]
        rows, columns = self.positions.float().unbind(-1)
        return torch.stack(
            [columns * scale_x, rows * scale_y, (columns + self.patch) * scale_x, (rows + self.patch) * scale_y], -1
        )


@torch.no_grad()
def find_regions(layer: TrainedLayer, features: Tensor, targets: Tensor, explainers: Sequence[str]) -> Regions:
    """Regions that a layer's attributes choose, for K explainers and targets (K, M), by each explainer's CLA-layer."""
    found = [
        best_positions(layer.explainers[name], features, layer.patterns[of_one])
        for name, of_one in zip(explainers, targets, strict=True)
    ]
    positions, distances = (torch.stack(parts) for parts in zip(*found, strict=True))
    return Regions(positions, distances, tuple(features.shape[-2:]), layer.settings.patch)


def refinement_mask(
    positions: Tensor, patch: int, size: tuple[int, int], strength: float, width: float, overlap: str = "multiply"
) -> Tensor:
    """(..., 1, H, W) mask of regions with upper left corners (..., N, 2); ``overlap`` is a key of ``OVERLAPS``."""
    height, columns = size
    offsets = torch.arange(patch, device=positions.device)
    radius = (offsets - (patch - 1) / 2).square()
    radius = radius[:, None] + radius
    bump = 1 + (strength - 1) * torch.exp(-(radius - radius.min()) / (2 * (width * patch) ** 2))
    rows = positions[..., 0, None, None] + offsets[:, None]
    places = rows * columns + positions[..., 1, None, None] + offsets
    mask = torch.ones(*positions.shape[:-2], height * columns, device=positions.device)
    mask.scatter_reduce_(-1, places.flatten(-3), bump.expand(places.shape).flatten(-3), OVERLAPS[overlap])
    return mask.unflatten(-1, (1, height, columns))


@dataclass(frozen=True)
class Refine:
    """Multiplies relevance (K, M, D, H, W) by a mask (K, M, 1, H, W)."""

    mask: Tensor

    def __call__(self, relevance: Tensor) -> Tensor:
        return relevance * self.mask


def refinements(
    layers: Sequence[TrainedLayer],
    outputs: Mapping[str, Tensor],
    targets: Tensor,
    explainers: Sequence[str],
    options: ClamOptions,
) -> tuple[dict[str, Tensor], list[Regions]]:
    """Masks (K, M, 1, H, W) of all layers, by the operation whose relevance they multiply, and their regions.

    Args:
        layers: of one training.
        outputs: of the forward pass, with every layer's ``features_at``.
        targets: (K, M), those of each of the K explainers.
        options: of them the width of the masks and what holds where regions overlap.
    """
    regions = [find_regions(layer, outputs[layer.features_at], targets, explainers) for layer in layers]
    masks = {
        layer.relevance_at: refinement_mask(
            found.positions, found.patch, found.size, layer.settings.strength, options.mask_width, options.overlap
        )
        for layer, found in zip(layers, regions, strict=True)
    }
    return masks, regions
