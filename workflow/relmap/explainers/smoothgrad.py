r"""SmoothGrad (Smilkov et al. 2017): the gradient's mean over noisy copies of the image.

.. math::
    R = \max_c \Big| \frac1n \sum_{k=1}^n \frac{\partial z_t}{\partial x_c}(x + \sigma \varepsilon_k) \Big|, \qquad
    \varepsilon_k \sim N(0, 1), \quad \sigma = s\,(\max x - \min x)

With no noise it is ``saliency``. The paper shows n = 50 and s from 0.1 to 0.2 and fixes neither; absLRP names none. The
noise :math:`\varepsilon_k` follows from the seed, k and the shape of an image alone: it is the same for all images, so
that no batch changes a map, and a map is a continuous function of its image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.explainers.gradients import magnitude
from relmap.explainers.integrated_gradients import gradient_at
from relmap.job.seeds import generator
from relmap.propagation import Propagator, composites


class SmoothGrad(Explainer):
    """A forward pass of all images for each draw, shared by the targets.

    Args:
        propagator: of the model.
        samples: n, the number of draws.
        noise: s, the noise's standard deviation as a share of the image's range over all channels.
        seed: of the draws.
    """

    def __init__(self, propagator: Propagator, *, samples: int = 20, noise: float = 0.15, seed: int = 0) -> None:
        if samples < 1:
            raise InputError(f"SmoothGrad: samples is {samples}; give at least 1")
        if not noise >= 0:
            raise InputError(f"SmoothGrad: noise is {noise}; give a share of the image's range that is not negative")
        self.walk = propagator.by(composites.gradient())
        self.samples, self.noise, self.seed = samples, noise, seed

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.by_channel(images, targets).amax(2)

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point():
            raise InputError(
                f"SmoothGrad: the input is {images.dtype}, and noise on token ids has no meaning; give pictures, or "
                "take saliency"
            )
        low, high = images.flatten(1).aminmax(dim=1)
        sigma = (self.noise * (high - low)).view(-1, *[1] * (images.dim() - 1))
        mean = images.new_zeros(targets.shape[1], *images.shape)
        for sample in range(self.samples):
            epsilon = torch.randn(images.shape[1:], generator=generator(self.seed, "smoothgrad", sample))
            noisy = images + sigma * epsilon.to(images)
            mean += gradient_at(noisy, targets, self.walk) / self.samples
        return magnitude(images, mean).transpose(0, 1)
