r"""The toy networks of Figure 1: equal outputs of hidden neurons, unequal magnitudes behind them.

.. math::
    h = \mathrm{ReLU}(W x), \quad y = h_1 + h_2, \qquad x = (1, 1), \quad
    W = \begin{pmatrix} 2 & -1 \\ a & b \end{pmatrix}, \quad a + b = 1

Whatever a and b, :math:`h = (1, 1)` and :math:`y = 2`. LRP-alpha1-beta0 divides the positive part of a neuron's inputs
by itself and gives both inputs the same; absLRP divides by the neuron's value, so that inputs share as 2 to b.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import relmap
import torch
from torch import nn

FIRST = (2.0, -1.0)
"""Weights of the first hidden neuron."""

SECOND: Mapping[str, tuple[float, float]] = {
    "left": (-1.0, 2.0),
    "right": (-5.0, 6.0),
    "right, larger": (-17.0, 18.0),
}
"""Weights (a, b) of the second: the figure's two networks, and the one that the text adds."""

METHODS: Mapping[str, Mapping[str, Any]] = {"lrp_alpha1_beta0": {"first": "same"}, "abslrp_target": {}}
"""The figure's methods; there is one output, so no other class to set it against, and no z-box."""


def toy_network(second: tuple[float, float]) -> nn.Sequential:
    """Images (N, 1, 1, 2) to (N, 1), in float64."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([FIRST, second]))
        model[3].weight.fill_(1)
    return model.requires_grad_(False)


def toy_attributions() -> list[dict[str, Any]]:
    """A line for each network and method: the weights (a, b), and the inputs' shares of the absolute relevance."""
    ones = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    lines = []
    for name, second in SECOND.items():
        for method, maps in relmap.compare(toy_network(second), ones, 0, METHODS).items():
            first, other = (maps / maps.abs().sum()).flatten().tolist()
            what = {"network": name, "a": second[0], "b": second[1], "method": method}
            lines.append({**what, "input_1": first, "input_2": other})
    return lines
