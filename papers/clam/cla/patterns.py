"""Intrinsic class patterns (SymBa, Lee and Song 2023; CLAM, Sec. 3.3): one P x P pattern for each class and layer."""

from __future__ import annotations

import torch
from relmap.job.seeds import generator
from torch import Tensor


def class_patterns(kind: str, classes: int, patch: int, layer: str, seed: int) -> Tensor:
    """(C, P, P) patterns of unit RMS.

    ``random``: independent normal values. ``orthogonal``: orthonormal in blocks of P * P classes, as far as P * P
    dimensions allow.
    """
    random = torch.randn(classes, patch * patch, generator=generator(seed, "patterns", layer), dtype=torch.float64)
    if kind == "orthogonal":
        blocks = []
        for block in random.split(patch * patch):
            square = torch.zeros(patch * patch, patch * patch, dtype=torch.float64)
            square[:, : len(block)] = block.T
            blocks.append(torch.linalg.qr(square[:, : len(block)])[0].T)
        random = torch.cat(blocks)
    unit = random / random.square().mean(1, keepdim=True).sqrt()
    return unit.float().view(classes, patch, patch)
