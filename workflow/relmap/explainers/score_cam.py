r"""Score-CAM (Wang et al. 2020): the last feature map, each channel weighed by what the image keeps when it masks it.

.. math::
    H_k = \frac{U(A_k) - \min U(A_k)}{\max U(A_k) - \min U(A_k)}, \qquad
    w = \mathrm{softmax}_k \big( z_t(x \circ H_k) \big), \qquad
    M = \Big( \sum_k w_k A_k \Big)^{\!+}

with the channels :math:`A_k`, U their bilinear enlargement to the image's size and :math:`z_t` the target's logit. What
is masked becomes 0 in normalised space, the mean colour. The paper's increase of confidence, the logit less that of a
baseline, differs by a number that is the same for all channels, which the softmax over them does not see. This is the
paper's Algorithm 1, and pytorch-grad-cam's reading; the authors' code weighs by the class's probability instead. A
channel without contrast masks everything.

A forward pass for each channel: 2,048 for an image by a ResNet-50. With ``channels`` only those count whose values on
the map vary most, by their standard deviation; no published number is made so.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer, as_maps
from relmap.explainers.tokens import cam_layer
from relmap.network.layouts import layout_of
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Propagator


class ScoreCAM(Explainer):
    """All channels' masks on their images, by plain forward passes that the targets share.

    Args:
        propagator: of the model.
        channels: how many of the channels count, those that vary most; None for all.
        layer: name of a layer or block to read instead of the last feature map.
        batch: masked images of one forward pass. It does not change the map.
    """

    positive = True

    def __init__(
        self, propagator: Propagator, *, channels: int | None = None, layer: str | None = None, batch: int = 64
    ) -> None:
        for name, value in (("channels", channels), ("batch", batch)):
            if value is not None and value < 1:
                raise InputError(f"Score-CAM: {name} is {value}; give at least 1")
        graph = propagator.graph
        self.layer = cam_layer(graph) if layer is None else graph.activation_of(layer)
        self.propagator, self.channels, self.batch = propagator, channels, batch

    def signed_activation_map(self) -> Self:
        signed = copy.copy(self)
        signed.positive = False
        return signed

    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point() or images.dim() != 4:
            raise InputError(
                f"Score-CAM: the input is {images.dtype} of shape {tuple(images.shape)}, and only pictures can be "
                "masked; give images (N, C, H, W)"
            )
        activations = self.propagator.forward(images, keep=[self.layer])
        layout = layout_of(self.propagator.graph, self.layer, activations.shapes)
        features = layout.to_map(activations.outputs[self.layer][None])[0]  # (N, C, h, w)
        if self.channels is not None and self.channels < features.shape[1]:
            varying = features.flatten(2).double().std(2).topk(self.channels, dim=1).indices
            features = features.gather(1, varying[:, :, None, None].expand(-1, -1, *features.shape[2:]))
        scores = torch.cat([self._scores(images, part, targets) for part in features.split(self._step(images), 1)], 1)
        weights = scores.softmax(1)  # (N, C, K)
        maps = torch.einsum("nck,nchw->knhw", weights, features)
        return as_maps(maps.relu() if self.positive else maps, images.shape).transpose(0, 1)

    def _step(self, images: Tensor) -> int:
        return max(1, self.batch // len(images))

    def _scores(self, images: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        """The targets' logits of images (N, ...) that each channel (N, m, h, w) masks: (N, m, K)."""
        masks = F.interpolate(features, images.shape[2:], mode="bilinear", align_corners=False)
        low, high = masks.flatten(2).aminmax(dim=2)
        low, span = low[..., None, None], (high - low)[..., None, None]
        masks = (masks - low) / torch.where(span > 0, span, 1)
        masked = images[:, None] * masks[:, :, None]
        logits = pooled_scores(self.propagator.forward(masked.flatten(0, 1)).logits).unflatten(0, masked.shape[:2])
        return logits.gather(2, targets[:, None].expand(-1, features.shape[1], -1))
