r"""Excitation backpropagation (Zhang et al. 2018): marginal winning probabilities at an inner layer.

.. math:: R_i = x_i \sum_j w_{ij}^+ \frac{R_j}{\sum_{i'} w_{i'j}^+ x_{i'}}

The rules are ``relmap.propagation.composites.excitation_backprop``; here are the layer and the map.
"""

from __future__ import annotations

from torch import Tensor

from relmap.explainers.cam import last_feature_map
from relmap.propagation import Graph

# Where TorchRay reads excitation backpropagation, by the last feature map: VGG-16 and the ResNets of torchvision.
LAYERS = {"features.29": "features.23", "layer4": "layer3"}


def excitation(features: Tensor, relevance: Tensor) -> Tensor:
    """Relevance summed over the channels: (N, C, h, w) to (N, h, w). ``features`` are not looked at."""
    return relevance.sum(1)


def excitation_layer(graph: Graph) -> str:
    """Name of the operation at whose output to stop; the last feature map in networks that ``LAYERS`` lacks."""
    last = last_feature_map(graph)
    names = [layer for key, layer in LAYERS.items() if last == key or last.startswith(f"{key}.")]
    return graph.activation_of(names[0]) if names else last
