r"""CAMERAS (Jalwana et al. 2021): features and gradients of the image at several sizes, averaged apart.

.. math::
    M = \Big( \sum_c \bar A_c\, \bar G_c \Big)^+, \qquad
    \bar A = \frac{1}{|S|} \sum_{s \in S} U A(x_s), \quad \bar G = \frac{1}{|S|} \sum_{s \in S} U \nabla_A z_t(x_s)

with A the last feature map, x_s the image enlarged bicubically to size s (the first is the image itself), U the
bilinear enlargement of a feature map to the image's size, and M brought to [0, 1]: each position is weighed by its own
mean gradient, without a spatial mean. The sizes are 224, 324, ... 924 for images of 224, and in proportion for others.

S holds the sizes at which the network predicts what it predicts at the first, where the target is that class. The
authors' code (VisMIL/CAMERAS) asks for no more where the target is another: all sizes count. The copy in UCAG's
repository names the class always, so that all sizes count (``agreeing=False``); it starts from the exponential of the
logit divided by its sum over positions, which is 1 but on a score map, where all of relmap's starts are so spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.explainers.tokens import cam_layer
from relmap.network.layouts import layout_of
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Propagator, composites, starts

SCALES = tuple(size / 224 for size in range(224, 1000, 100))
ENTRIES = 2**26
"""Of a tensor of enlarged features: more channels are summed in turns."""


class CAMERAS(Explainer):
    """A forward pass for each size, fewer images at a time the larger it is; memory is bounded.

    Args:
        propagator: of the model, which must take images of other sizes.
        scales: the sizes, as multiples of the image's sides; the first is 1.
        agreeing: whether sizes of another prediction are left out.
        layer: name of a layer or block to read instead of the last feature map.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        scales: Sequence[float] = SCALES,
        agreeing: bool = True,
        layer: str | None = None,
    ) -> None:
        if not scales or scales[0] != 1 or min(scales) <= 0:
            raise InputError(f"CAMERAS: scales are {list(scales)}; give positive ones of which the first is 1")
        graph = propagator.graph
        self.layer = cam_layer(graph) if layer is None else graph.activation_of(layer)
        self.walk = propagator.by(composites.gradient())
        self.scales, self.agreeing = tuple(scales), agreeing

    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point() or images.dim() != 4:
            raise InputError(
                f"CAMERAS: the input is {images.dtype} of shape {tuple(images.shape)}, and only pictures can be "
                "enlarged; give images (N, C, H, W)"
            )
        found = [self._at(images, targets.T, scale) for scale in self.scales]
        predicted = torch.stack([of_size for _, _, of_size in found])  # (S, N)
        counted = predicted == predicted[:1]
        if not self.agreeing:
            counted = torch.ones_like(counted)
        # Of a target that is not the prediction all sizes count: (S, K, N).
        counted = counted[:, None] | (predicted[0] != targets.T)
        size = tuple(images.shape[2:])
        channels = found[0][0].shape[1]
        step = max(1, ENTRIES // (targets.numel() * size[0] * size[1]))
        maps = images.new_zeros(*targets.T.shape, *size)
        for first in range(0, channels, step):
            part = slice(first, first + step)
            features, gradients = 0, 0
            for weight, (of_features, of_gradients, _) in zip(counted.to(images), found, strict=True):
                weight = weight[..., None, None, None]
                features = features + weight * _enlarged(of_features[:, part], size)
                gradients = gradients + weight * _enlarged(of_gradients[:, :, part].flatten(0, 1), size).unflatten(
                    0, targets.T.shape
                )
            maps += (features * gradients).sum(2)
        maps = (maps / counted.sum(0)[..., None, None].square()).relu()
        low, high = maps.flatten(2).aminmax(dim=2)
        span = (high - low)[..., None, None]
        return ((maps - low[..., None, None]) / torch.where(span > 0, span, 1)).transpose(0, 1)

    def _at(self, images: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, C, h, w), gradients (K, N, C, h, w) for targets (K, N), and predictions (N,) at one size."""
        size = tuple(round(scale * side) for side in images.shape[2:])
        count = max(1, int(len(images) / scale**2))
        parts = []
        for batch, classes in zip(images.split(count), targets.split(count, 1), strict=True):
            if scale != 1:
                batch = F.interpolate(batch, size, mode="bicubic", align_corners=False)
            try:
                activations = self.walk.forward(batch, [self.layer])
            except (InputError, RuntimeError) as error:
                raise InputError(
                    f"CAMERAS: this network does not take images of {size[0]} x {size[1]} pixels ({error}); choose a "
                    "method that looks at one size, such as layer_cam"
                ) from error
            start = starts.stacked(starts.one_hot, activations.logits, classes)
            gradient = self.walk.propagate(activations, start, stop=self.layer).relevance
            layout = layout_of(self.walk.graph, self.layer, activations.shapes)
            features = layout.to_map(activations.outputs[self.layer][None])[0]
            parts.append((features, layout.to_map(gradient), pooled_scores(activations.logits).argmax(1)))
        features, gradients, predicted = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(gradients, 1), torch.cat(predicted)


def _enlarged(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features, size, mode="bilinear", align_corners=False)
