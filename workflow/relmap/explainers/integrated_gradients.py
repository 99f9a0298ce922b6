r"""Integrated Gradients (Sundararajan et al. 2017): the gradient's mean along a straight line, times its length.

.. math:: R_i = (x_i - b_i) \int_0^1 \frac{\partial z_t}{\partial x_i}\big(b + s\,(x - b)\big)\, ds

with the baseline ``b`` at 0, the mean colour of normalised images; the integral is a Gauss-Legendre sum, as captum has.
Completeness: the map's total is ``z_t(x) - z_t(b)``, up to the error of the sum.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer, as_maps
from relmap.propagation import Propagator, Walk, composites, starts


def gradient_at(images: Tensor, targets: Tensor, walk: Walk) -> Tensor:
    """The gradient of the targets' logits (N, K) at images (N, ...), by a forward pass of its own: (K, N, ...)."""
    activations = walk.forward(images)
    return walk.propagate(activations, starts.stacked(starts.one_hot, activations.logits, targets.T)).relevance


class IntegratedGradients(Explainer):
    """A forward pass of all images for each point of the line, shared by the targets.

    Args:
        propagator: of the model.
        steps: points of the sum.
    """

    def __init__(self, propagator: Propagator, *, steps: int = 20) -> None:
        if steps < 1:
            raise InputError(f"Integrated Gradients: steps is {steps}; give at least 1")
        self.walk = propagator.by(composites.gradient())
        points, weights = np.polynomial.legendre.leggauss(steps)
        self.sum = [((1 + point) / 2, weight / 2) for point, weight in zip(points, weights, strict=True)]

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return as_maps(self.by_channel(images, targets), images.shape)

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point():
            raise InputError(
                f"Integrated Gradients: the input is {images.dtype}, and a line between token ids has no meaning; give "
                "pictures, or take input_x_gradient"
            )
        mean = images.new_zeros(targets.shape[1], *images.shape)
        for point, weight in self.sum:
            mean += weight * gradient_at(point * images, targets, self.walk)
        return (images * mean).transpose(0, 1).detach()
