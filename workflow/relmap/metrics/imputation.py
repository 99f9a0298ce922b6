r"""Linear imputation of missing pixels (Rong et al. 2022, ROAD): each is the weighted mean of its neighbours.

For every missing pixel i of a picture x, with weights 1/6 for the four direct neighbours and 1/12 for the four diagonal
ones, those outside the picture left out:

.. math:: \sum_{j \in N(i)} w_{ij}\, (x_i - x_j) = 0, \qquad x_j \text{ given where pixel } j \text{ is known}

The pixels' means depend on each other: a sparse linear system for each picture and set of missing pixels, symmetric and
positive definite as long as one pixel is known, with as many right sides as there are channels.

On a GPU a whole batch is solved at once by :mod:`relmap.metrics.multigrid`. On a CPU LAPACK's banded Cholesky of each
system is several times quicker than that, and exact: missing pixels alone are unknowns, numbered in raster order, so
that the band is as wide as there are missing pixels from one to its neighbour below.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg.lapack import dpbsv
from torch import Tensor

from relmap.metrics.multigrid import solved_together

SOLVERS = ("direct", "multigrid")

# Neighbours that come later in raster order, and their weights; those before have the same.
_LATER = (((0, 1), 1 / 6), ((1, -1), 1 / 12), ((1, 0), 1 / 6), ((1, 1), 1 / 12))


def linear_imputation(images: Tensor, missing: Tensor, solver: str | None = None) -> Tensor:
    """Pictures with their missing pixels imputed.

    Args:
        images: (N, C, H, W), finite. What stands at missing pixels is not looked at.
        missing: (N, H, W) bool; the same for all channels.
        solver: ``direct`` or ``multigrid``; None for the quicker one where the images are. They agree to 1e-5 of a
            picture's greatest value.

    Returns:
        Like ``images``. A picture of which nothing is known becomes 0, of normalised pictures the data's mean.

    Raises:
        ValueError: the masks do not fit the pictures, a picture is not finite, or another solver.
    """
    if missing.shape != (len(images), *images.shape[2:]) or missing.dtype != torch.bool:
        raise ValueError(f"missing {tuple(missing.shape)} must be bool and fit images {tuple(images.shape)}")
    if not images.isfinite().all():
        raise ValueError("images contain NaN or infinity, which no imputation mends")
    solver = solver or ("direct" if images.device.type == "cpu" else "multigrid")
    if solver not in SOLVERS:
        raise ValueError(f"solver {solver!r} is unknown; choose {' or '.join(SOLVERS)}")
    if not len(images):
        return images.clone()
    return solved_together(images, missing) if solver == "multigrid" else _one_by_one(images, missing)


def _one_by_one(images: Tensor, missing: Tensor) -> Tensor:
    pixels, holes = images.double().cpu().numpy(), missing.cpu().numpy()
    known = np.where(holes[:, None], 0, pixels)
    right, total = _neighbours(known), _neighbours(np.ones(holes.shape[1:])).ravel()
    filled = known.reshape(*known.shape[:2], -1)
    for own, given, hole in zip(filled, right.reshape(filled.shape), holes, strict=True):
        if hole.any() and not hole.all():
            places = np.flatnonzero(hole)
            own[:, places] = _solved(hole, total[places], given[:, places].T).T
    return torch.from_numpy(filled.reshape(known.shape)).to(images)


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Weighted sums over the eight neighbours (..., H, W); nothing beyond the border."""
    sums = np.zeros_like(values)
    for offset, weight in _LATER:
        here, there = _ends(offset, values.shape[-2:])
        sums[(..., *here)] += weight * values[(..., *there)]
        sums[(..., *there)] += weight * values[(..., *here)]
    return sums


def _solved(hole: np.ndarray, total: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Values (n, C) of the n missing pixels of a picture, given the weights that each has and its known neighbours'."""
    number = (np.cumsum(hole) - 1).reshape(hole.shape)
    entries = []
    for offset, weight in _LATER:
        here, there = _ends(offset, hole.shape)
        both = hole[here] & hole[there]
        first = number[here][both]
        entries.append((number[there][both] - first, first, weight))
    band = np.zeros((1 + max(apart.max(initial=0) for apart, _, _ in entries), len(total)), order="F")
    band[0] = total
    for apart, first, weight in entries:
        band[apart, first] = -weight
    _, values, failed = dpbsv(band, np.asfortranarray(right), lower=1, overwrite_ab=1, overwrite_b=1)
    if failed:
        raise ArithmeticError(f"dpbsv failed with {failed} on a system that is positive definite")
    return values


def _ends(offset: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Pixels that have a neighbour at an offset, and those neighbours."""
    here = tuple(slice(max(0, -by), side - max(0, by)) for by, side in zip(offset, size, strict=True))
    there = tuple(slice(max(0, by), side - max(0, -by)) for by, side in zip(offset, size, strict=True))
    return here, there
