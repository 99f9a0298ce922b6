r"""Sub-features at the most relevant positions (CLAM, Eq. 1).

.. math:: (x_i, y_i)_{i=1}^N = \mathrm{top}_N\, \mathrm{AvgPool}_P\big(\max_c R^{(l)}_c\big), \qquad
    S_i = F^{(l)}[:, x_i : x_i + P, y_i : y_i + P]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from relmap.errors import InputError
from torch import Tensor


def top_positions(relevance: Tensor, patch: int, count: int, stride: int = 1) -> Tensor:
    """Upper left corners of the ``count`` patches with the most pooled relevance, best first.

    Args:
        relevance: (M, D, H, W).
        stride: of the pooling; 1 lets patches overlap, ``patch`` lays them side by side.

    Returns:
        (M, count, 2) rows and columns.
    """
    pooled = F.avg_pool2d(relevance.amax(1, keepdim=True), patch, stride).squeeze(1)
    columns = pooled.shape[2]
    # A stable descending sort, for top-k leaves the order of ties to the device.
    best = pooled.flatten(1).sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.stack([best // columns, best % columns], 2) * stride


def gather_patches(features: Tensor, positions: Tensor, patch: int) -> Tensor:
    """Patches of (M, D, H, W) features at (M, N, 2) upper left corners: (M, N, D, P, P)."""
    offsets = torch.arange(patch, device=features.device)
    rows = positions[..., 0, None, None] + offsets[:, None]
    columns = positions[..., 1, None, None] + offsets
    images = torch.arange(len(features), device=features.device)[:, None, None, None]
    return features[images, :, rows, columns].permute(0, 1, 4, 2, 3)


class Store:
    """Tensors of one shape and M rows for each member, in a file of their own: at full scale they outgrow a memory.

    The file is mapped, so that the system keeps in memory what fits. It is gone when the store is closed.

    Args:
        members: how many. rows: M. shape: of one row.
        folder: where the file lies; None for the system's temporary folder.

    Raises:
        InputError: the disk has no room for them.
    """

    def __init__(self, members: int, rows: int, shape: Sequence[int], folder: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sub_features_", dir=folder)
        size = members * rows * torch.Size(shape).numel()
        file = Path(self._folder.name) / "values"
        try:
            # A full disk that only a mapped page finds ends the process without a word.
            with open(file, "wb") as opened:
                os.posix_fallocate(opened.fileno(), 0, 4 * size)
        except OSError as error:
            self._folder.cleanup()
            raise InputError(
                f"{file.parents[1]}: no room for {4 * size / 1e9:.1f} GB of sub-features ({error.strerror}); "
                "set TMPDIR to a larger disk, or lower clam.train_images_per_class or clam.trainings"
            ) from error
        self.values = torch.from_file(str(file), shared=True, size=size).view(members, rows, *shape)

    def close(self) -> None:
        del self.values
        self._folder.cleanup()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
