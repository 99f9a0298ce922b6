r"""Maps from the gradient of the target's logit at the input, or from its altered forms.

.. math::
    \text{sensitivity (Simonyan et al. 2013): } \max_c |g_c|, \qquad
    \text{linear approximation: } \sum_c x_c\, g_c

Sensitivity is what gradient, DeconvNet and guided backpropagation show of their (pseudo-)gradient ``g``; it cannot be
negative. The conventions are TorchRay's.
"""

from __future__ import annotations

from torch import Tensor


def sensitivity(features: Tensor, gradient: Tensor) -> Tensor:
    """Largest absolute gradient over the channels: (N, C, H, W) to (N, H, W). ``features`` are not looked at."""
    return gradient.abs().amax(1)


def linear_approximation(features: Tensor, gradient: Tensor) -> Tensor:
    """Features times gradient, summed over the channels: (N, C, H, W) twice to (N, H, W), signed."""
    return (features * gradient).sum(1)
