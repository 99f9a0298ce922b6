r"""Refinement of relevance in mid-propagation (CLAM, Sec. 3.4 and Appendix A.1).

Each attribute chooses the patch that fits it best under the target's pattern. A mask is 1 outside all chosen patches
and

.. math:: 1 + (s - 1) \exp\!\Big(-\frac{r^2 - r_0^2}{2 (w P)^2}\Big)

inside, with r the distance from the patch's centre, r_0 that of the pixel nearest to it, and s the strength; where
patches overlap the larger value holds. Relevance is multiplied by it and travels on; its total is not restored unless
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from relmap.propagation import Activations
from torch import Tensor

from papers.clam.cla.layer import best_positions
from papers.clam.cla.trained import TrainedLayer


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


def refinement_mask(positions: Tensor, patch: int, size: tuple[int, int], strength: float, width: float) -> Tensor:
    """(..., 1, H, W) mask of regions with upper left corners (..., N, 2)."""
    height, columns = size
    offsets = torch.arange(patch, device=positions.device)
    radius = (offsets - (patch - 1) / 2).square()
    radius = radius[:, None] + radius
    bump = 1 + (strength - 1) * torch.exp(-(radius - radius.min()) / (2 * (width * patch) ** 2))
    rows = positions[..., 0, None, None] + offsets[:, None]
    places = rows * columns + positions[..., 1, None, None] + offsets
    mask = torch.ones(*positions.shape[:-2], height * columns, device=positions.device)
    mask.scatter_reduce_(-1, places.flatten(-3), bump.expand(places.shape).flatten(-3), "amax")
    return mask.unflatten(-1, (1, height, columns))


@dataclass(frozen=True)
class Refine:
    """Multiplies relevance (K, M, D, H, W) by a mask (K, M, 1, H, W)."""

    mask: Tensor
    restore_total: bool = False

    def __call__(self, relevance: Tensor) -> Tensor:
        refined = relevance * self.mask
        if self.restore_total:
            before, after = relevance.sum((2, 3, 4), keepdim=True), refined.sum((2, 3, 4), keepdim=True)
            refined = refined * torch.where(after == 0, 1, before / after)
        return refined


def refinements(
    layers: Sequence[TrainedLayer],
    activations: Activations,
    targets: Tensor,
    explainers: Sequence[str],
    *,
    mask_width: float,
    restore_total: bool = False,
) -> tuple[dict[str, Refine], list[Regions]]:
    """Transforms for ``Walk.propagate`` of all layers, and the regions that they come from.

    ``activations`` must keep every layer's ``features_at``; targets (K, M), those of each of the K explainers.
    """
    regions = [find_regions(layer, activations.outputs[layer.features_at], targets, explainers) for layer in layers]
    transforms = {
        layer.relevance_at: Refine(
            refinement_mask(found.positions, found.patch, found.size, layer.settings.strength, mask_width),
            restore_total,
        )
        for layer, found in zip(layers, regions, strict=True)
    }
    return transforms, regions
