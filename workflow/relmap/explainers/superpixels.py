r"""Regions of an image, whole or removed: a grid, or superpixels.

``slic`` is SLIC (Achanta et al. 2012) without its last step, which makes regions connected: pixels go to the nearest of
:math:`g \times g` centres by

.. math:: D^2 = d_\mathrm{colour}^2 + m^2 \, d_\mathrm{xy}^2 / S^2

in the network's normalised colours, with S the distance of the centres at first, each at the mean of its pixels
afterwards, ten times; a region may lose all its pixels. Nothing is drawn at random, and each image's regions are its
own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError

COMPACTNESS, ROUNDS = 1.0, 10


def regions_of(images: Tensor, kind: str, side: int) -> Tensor:
    """Which of ``side ** 2`` regions each pixel of images (N, C, H, W) belongs to, (N, H, W) int64.

    Raises:
        InputError: the kind is not ``grid`` or ``slic``, or a picture has fewer pixels than regions on a side.
    """
    height, width = images.shape[2:]
    if not 1 <= side <= min(height, width):
        raise InputError(
            f"regions: {side} on a side of a picture of {height} x {width}; give 1 to {min(height, width)}"
        )
    cells = _grid(height, width, side, images.device).expand(len(images), -1, -1)
    if kind == "grid":
        return cells
    if kind == "slic":
        return _slic(images, cells, side)
    raise InputError(f"regions {kind!r} is unknown; choose grid or slic")


def _grid(height: int, width: int, side: int, device: torch.device) -> Tensor:
    rows, columns = (torch.arange(n, device=device) * side // n for n in (height, width))
    return rows[:, None] * side + columns


def _slic(images: Tensor, cells: Tensor, side: int) -> Tensor:
    count, height, width = len(images), *images.shape[2:]
    spacing = (height * width) ** 0.5 / side
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).to(images)
    features = torch.cat([images, (COMPACTNESS / spacing * places).expand(count, -1, -1, -1)], 1)
    points = features.flatten(2).mT.double()  # (N, P, C + 2)
    labels = cells.flatten(1)
    centres = _means(points, labels, side**2)
    for _ in range(ROUNDS):
        labels = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(2)
        filled = sizes_of(labels, side**2)[..., None] > 0
        centres = torch.where(filled, _means(points, labels, side**2), centres)
    return labels.view(count, height, width)


def _means(points: Tensor, labels: Tensor, regions: int) -> Tensor:
    """Mean of each region's points, (N, R, D); 0 of an empty one."""
    sums = points.new_zeros(len(points), regions, points.shape[2])
    sums.scatter_add_(1, labels[..., None].expand_as(points), points)
    return sums / sizes_of(labels, regions).clamp(min=1)[..., None].to(points.dtype)


def sizes_of(regions: Tensor, count: int) -> Tensor:
    """Pixels of each region, (N, R) float64."""
    flat = regions.flatten(1)
    return flat.new_zeros(len(flat), count, dtype=torch.float64).scatter_add_(1, flat, torch.ones_like(flat).double())


def mean_colours(images: Tensor, regions: Tensor, count: int) -> Tensor:
    """Images (N, C, H, W) with every pixel the mean of its region."""
    points = images.flatten(2).mT
    labels = regions.flatten(1)
    return _means(points, labels, count).gather(1, labels[..., None].expand_as(points)).mT.reshape(images.shape)
