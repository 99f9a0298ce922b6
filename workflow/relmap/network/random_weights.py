"""A network that has learned nothing: random weights in place of trained ones, as AE's code draws them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from relmap.job.seeds import generator


@torch.no_grad()
def randomise(model: nn.Module, names: Sequence[str], seed: int) -> None:
    """Replace parameters, in place, by random ones that follow from their names and the seed."""
    for name in names:
        parameter = model.get_parameter(name)
        # Drawn in one precision on the CPU, so that no device and no type changes them.
        values, draws = torch.empty(parameter.shape), generator(seed, "cascade", name)
        if name.endswith("bias"):
            values.uniform_(0, 1, generator=draws)
        elif values.dim() < 2:
            values.uniform_(-(3**0.5), 3**0.5, generator=draws)
        else:
            nn.init.xavier_uniform_(values, generator=draws)
        parameter.copy_(values)
