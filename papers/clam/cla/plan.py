"""From a config to the settings of a classifier's CLA-layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from relmap.propagation import Walk

from papers.clam.cla.settings import ClamOptions, LayerSettings, layer_settings
from papers.clam.cla.training import feature_operation


def feature_sizes(propagator: Walk, layers: Sequence[str], input_size: int) -> dict[str, tuple[int, int]]:
    """Feature map (height, width) of each layer, from one blank image.

    Raises:
        InputError: a layer does not exist.
    """
    blank = torch.zeros(1, 3, input_size, input_size, device=propagator.device)
    shapes = propagator.forward(blank).shapes
    places = {layer: feature_operation(propagator.graph, layer, "after_relu") for layer in layers}
    return {layer: tuple(shapes[place][-2:]) for layer, place in places.items()}


def plan_layers(propagator: Walk, layers: Sequence[str], input_size: int, options: ClamOptions) -> list[LayerSettings]:
    """Settings of each CLA-layer, from the output to the input."""
    return layer_settings(options, layers, feature_sizes(propagator, layers, input_size))
