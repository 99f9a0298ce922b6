"""How often the two masks of Eq. 3 differ, and how near Eq. 1's maps are to Gradient x Input's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from relmap.explainers.contour import SIDE, masks, reduced


def mask_row(maps: np.ndarray, side: int = SIDE) -> dict[str, float]:
    """Shares of maps (N, H, W) in which the masks differ.

    Returns:
        ``changes_component``: the largest component is not all kept, for the largest contour is another's;
        ``changes_contour``: cells inside the contour are not kept, holes or another component's; ``empty``: nothing is
        kept; ``kept``: mean share of cells kept; ``n_maps``.
    """
    found = masks(reduced(torch.from_numpy(np.ascontiguousarray(maps)), side))
    both = found.contour & found.component
    return {
        "changes_component": _share(found.component & ~both),
        "changes_contour": _share(found.contour & ~both),
        "empty": 1 - _share(both),
        "kept": float(both.double().mean()),
        "n_maps": len(maps),
    }


def _share(cells: torch.Tensor) -> float:
    """Share of maps with any such cell."""
    return float(cells.flatten(1).any(1).double().mean())


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) Pearson's correlation of two maps (N, H, W) each, in float64; NaN where one is constant."""
    sides = [side.reshape(len(side), -1).astype(np.float64) for side in (first, second)]
    sides = [side - side.mean(axis=1, keepdims=True) for side in sides]
    sizes = np.sqrt(np.prod([(side**2).sum(axis=1) for side in sides], axis=0))
    return np.divide((sides[0] * sides[1]).sum(axis=1), sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def correlation_row(values: np.ndarray) -> dict[str, float]:
    """Least, median and mean of correlations, and how many are known."""
    known = values[~np.isnan(values)]
    words = {"least": np.min, "median": np.median, "mean": np.mean}
    return {name: float(of(known)) if len(known) else np.nan for name, of in words.items()} | {"n_maps": len(known)}


def with_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of single networks, and below each method's their mean, of ``least`` the least, whose model is ``all``."""
    numbers = [name for name in rows.select_dtypes("number") if name != "n_maps"]
    found = []
    for _, part in rows.groupby("method", sort=False):
        mean = {
            **part.iloc[0].to_dict(),
            **{name: part[name].min() if name == "least" else part[name].mean() for name in numbers},
            "model": "all",
            "n_maps": part["n_maps"].sum(),
        }
        found += [part, pd.DataFrame([mean])]
    return pd.concat(found, ignore_index=True)
