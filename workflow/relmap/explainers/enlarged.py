r"""The map of an enlarged image: the plain alternative to looking at parts of it.

.. math:: M(x) = \Psi_{1/s}\big(E(\Psi_s(x))\big)

with the bicubic enlargement :math:`\Psi_s` by the factor s, any explainer E, and :math:`\Psi_{1/s}` the bilinear resize
of its map back to the image's size. Figure 2 of UCAG (Hong et al. 2023) sets it against patches.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.propagation import Propagator


class Enlarged(Explainer):
    """Another explainer on images s times as large.

    Args:
        propagator: of the model.
        inner: the explainer.
        factor: s, at least 1; sides are rounded to whole pixels.
    """

    def __init__(self, propagator: Propagator, *, inner: Explainer, factor: float = 2.0) -> None:
        if not factor >= 1:
            raise InputError(f"enlarged: factor is {factor}; give a factor of at least 1")
        self.propagator, self.inner, self.factor = propagator, inner, factor

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return self._reduced(self.inner(self._enlarged(images), targets), images)

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = self.inner.by_channel(self._enlarged(images), targets)
        return self._reduced(maps.flatten(0, 1), images).unflatten(0, maps.shape[:2])

    def _enlarged(self, images: Tensor) -> Tensor:
        if images.dim() != 4:
            raise InputError(f"enlarged: the input has shape {tuple(images.shape)}; give pictures (N, C, H, W)")
        size = tuple(round(self.factor * side) for side in images.shape[2:])
        if (channels_and_size := (images.shape[1], *size)) not in self.propagator.graph.sizes:
            self.propagator.graph.sizes.append(channels_and_size)
        return F.interpolate(images, size, mode="bicubic", align_corners=False)

    def _reduced(self, maps: Tensor, images: Tensor) -> Tensor:
        """Maps (N, K, h, w) of the enlarged images at the size of the images."""
        if maps.shape[2:] == images.shape[2:]:
            return maps
        return F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
