r"""Maps from the gradient of the target's logit at the input, or from its altered forms.

.. math::
    \text{sensitivity (Simonyan et al. 2013): } \max_c |g_c|, \qquad
    \text{linear approximation: } \sum_c x_c\, g_c

and of the map, where its maker smooths it, a Gaussian mean.

Sensitivity is what gradient, DeconvNet and guided backpropagation show of their (pseudo-)gradient ``g``; it cannot be
negative. The conventions are TorchRay's.
"""

from __future__ import annotations

import math

from torch import Tensor

from relmap.gaussian import gaussian_filter


def sensitivity(features: Tensor, gradient: Tensor) -> Tensor:
    """Largest absolute gradient over the channels: (N, C, H, W) to (N, H, W). ``features`` are not looked at."""
    return gradient.abs().amax(1)


def magnitude(features: Tensor, gradient: Tensor) -> Tensor:
    """What ``sensitivity`` takes the largest of, (N, C, H, W): Simonyan's saliency of each channel."""
    return gradient.abs()


def signal(features: Tensor, gradient: Tensor) -> Tensor:
    """The pseudo-gradient with its sign, (N, C, H, W): what DeconvNet and guided backpropagation project down."""
    return gradient


def linear_approximation(features: Tensor, gradient: Tensor) -> Tensor:
    """Features times gradient, summed over the channels: (N, C, H, W) twice to (N, H, W), signed."""
    return (features * gradient).sum(1)


def smoothed(maps: Tensor, share: float) -> Tensor:
    """Gaussian means, of standard deviation ``share`` of the longer side: (N, H, W) to (N, H, W).

    The Gaussian is cut at 4 deviations, rounded up; beyond the border the border goes on (TorchRay).
    """
    sigma = share * max(maps.shape[1:])
    reach = math.ceil(4 * sigma)
    return gaussian_filter(maps[:, None], reach, sigma, "replicate")[:, 0]
