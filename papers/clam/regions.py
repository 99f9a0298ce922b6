"""Where the attributes of CLA-layers look, as a map: an explainer, so that metrics of maps can say what lies there.

A pixel's value is the mean over CLA-layers of the share of the layer's region area that lies on it; a map's total is
the number of its pixels over that of the feature map's, the same for all images. The control ``anywhere`` has the mean
over all positions in the place of those that the attributes chose: what a region of that size has in this picture for
nothing, where centres are covered more often than corners.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from relmap.explainers.base import SharedPass
from relmap.propagation import Activations, Propagator
from torch import Tensor

from papers.clam.cla.refinement import find_regions
from papers.clam.cla.trained import TrainedLayer, load_artifacts


class AttributeRegions(SharedPass):
    """The regions that the attributes of one method's CLA-layers choose.

    Args:
        propagator: of the model.
        explainer: name in the layers' files of the method that is refined.
        artifacts: files of the CLA-layers, or the folder that holds them all.
        settings: the config's ``clam`` section, which says nothing of regions.
        places: ``chosen``, or the control ``anywhere``.

    Raises:
        InputError: there are no CLA-layers, or none of this explainer.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        explainer: str,
        artifacts: Sequence[str | os.PathLike],
        settings: Mapping[str, Any] | None = None,
        places: Literal["chosen", "anywhere"] = "chosen",
    ) -> None:
        self.layers = load_artifacts(artifacts, explainer, 0, propagator.device)
        self.propagator, self.explainer, self.places = propagator, explainer, places
        self.keep = tuple({layer.features_at: None for layer in self.layers})

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        size = tuple(activations.shapes["input"][-2:])
        maps = [self._covered(layer, activations.outputs[layer.features_at], targets, size) for layer in self.layers]
        return torch.stack(maps).mean(0)

    def _covered(self, layer: TrainedLayer, features: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        """(K, N, H, W): the share of one layer's region area on each pixel of its feature map, enlarged."""
        patch = layer.settings.patch
        height, width = (side - patch + 1 for side in features.shape[-2:])
        if self.places == "anywhere":
            starts = features.new_full((*targets.shape, height * width), 1 / (height * width))
        else:
            found = find_regions(layer, features, targets, [self.explainer] * len(targets)).positions
            corners = found[..., 0] * width + found[..., 1]
            ones = torch.full_like(corners, 1 / corners.shape[-1], dtype=features.dtype)
            starts = features.new_zeros((*targets.shape, height * width)).scatter_add(-1, corners, ones)
        # Each corner spreads its share evenly over its patch.
        spread = features.new_full((1, 1, patch, patch), 1 / patch**2)
        covered = F.conv_transpose2d(starts.view(-1, 1, height, width), spread)
        return F.interpolate(covered, size, mode="nearest").view(*targets.shape, *size)
