"""How alike two maps are: rank correlation and structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.gaussian import gaussian_filter
from relmap.metrics.ranking import average_ranks
from relmap.metrics.scaling import to_unit

_WINDOW, _SIGMA = 11, 1.5
# (K L)^2 of Wang et al. 2004 for maps in [0, 1].
_C1, _C2 = 0.01**2, 0.03**2


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation, map by map; equal pixels share their mean rank.

    Args:
        a, b: (N, H, W) relevance.

    Returns:
        (N,) float64. A constant map ranks nothing: 0, and 1 with another constant one, which is the same map.

    Raises:
        ValueError: shapes differ.
        InputError: a map is not finite.
    """
    _check(a, b)
    first, second = (average_ranks(maps).flatten(1) for maps in (a, b))
    first, second = (ranks - ranks.mean(1, keepdim=True) for ranks in (first, second))
    norms = first.square().sum(1), second.square().sum(1)
    constant, both = (norms[0] == 0) | (norms[1] == 0), (norms[0] == 0) & (norms[1] == 0)
    correlation = (first * second).sum(1) / (norms[0] * norms[1]).sqrt().masked_fill(constant, 1)
    return torch.where(both, 1.0, correlation)


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004) of maps that are each brought to [0, 1].

    An 11 x 11 Gaussian window of standard deviation 1.5, K = 0.01 and 0.03, mean over the windows that lie inside.

    Args:
        a, b: (N, H, W) relevance.

    Returns:
        (N,) float64.

    Raises:
        ValueError: shapes differ.
        InputError: a map is not finite, or smaller than the window.
    """
    _check(a, b)
    if min(a.shape[1:]) < _WINDOW:
        raise InputError(f"maps of {a.shape[1]} x {a.shape[2]} pixels are smaller than SSIM's window of {_WINDOW}")
    x, y = to_unit(a), to_unit(b)
    mean_x, mean_y = _windows(x), _windows(y)
    variance_x, variance_y = _windows(x * x) - mean_x.square(), _windows(y * y) - mean_y.square()
    covariance = _windows(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (luminance * structure).mean((1, 2))


def _windows(values: Tensor) -> Tensor:
    """Weighted means over the windows that lie inside: (N, H, W) -> (N, H - 10, W - 10)."""
    return gaussian_filter(values[:, None], _WINDOW // 2, _SIGMA)[:, 0]


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"maps {tuple(a.shape)} and {tuple(b.shape)} must both be (N, H, W)")
