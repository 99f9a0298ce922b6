"""How much a map looks like the picture's edges (CLAM, Section 4.2.1: Guided Backprop "yields edge-detection-like
results"): the rank correlation of the map's magnitude with that of the picture's gradient, Sobel's over all channels.

It describes a map and does not judge it. A map that is constant resembles no edges: 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from relmap.explainers.controls import Edges
from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import by_chunks
from relmap.metrics.similarity import rank_correlation
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``edge_correlation``, without levels."""
    correlation = edge_correlation(case.of(maps).to(case.device), case.once(edges_of))
    return case.tidy(method, "edge_correlation", correlation)


def edges_of(case: Case) -> Tensor:
    """(N, H, W) magnitude of the pictures' gradient, as the network sees them."""
    return by_chunks(lambda images: Edges(None)(images, images.new_zeros((len(images), 1)))[:, 0], case.images)


def edge_correlation(maps: Tensor, edges: Tensor) -> Tensor:
    """Spearman's rank correlation of |map| with the edges, image by image.

    Args:
        maps: (N, H, W) relevance, signed.
        edges: (N, H, W), not negative.

    Returns:
        (N,) float64.

    Raises:
        ValueError: shapes differ.
        InputError: a map is not finite.
    """
    if maps.shape != edges.shape or maps.ndim != 3:
        raise ValueError(f"maps {tuple(maps.shape)} and edges {tuple(edges.shape)} must both be (N, H, W)")
    constant = torch.zeros(1, device=maps.device)  # a picture without an edge ranks nothing either
    found = by_chunks(rank_correlation, as_relevance(maps).abs(), edges)
    return torch.where(maps.flatten(1).amax(1) == maps.flatten(1).amin(1), constant.double(), found)
