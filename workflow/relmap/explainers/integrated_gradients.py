r"""Integrated Gradients (Sundararajan et al. 2017): the gradient's mean along a straight line, times its length.

.. math:: R_i = (x_i - b_i) \int_0^1 \frac{\partial z_t}{\partial x_i}\big(b + s\,(x - b)\big)\, ds

with the baseline ``b`` at 0, the mean colour of normalised images; the integral is a Gauss-Legendre sum. Completeness:
the map's total is ``z_t(x) - z_t(b)``, up to the error of the sum.
"""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.explainers.base import Explainer, as_maps


class IntegratedGradients(Explainer):
    """Captum's sum, in batches of a fixed size.

    Args:
        model: the network.
        steps: points of the sum.
        batch_size: most images that the network gets at once, so that memory does not grow with ``steps``.
    """

    def __init__(self, model: nn.Module, *, steps: int = 20, batch_size: int = 64) -> None:
        if steps < 1 or batch_size < 1:
            raise InputError(f"Integrated Gradients: steps {steps} and batch_size {batch_size} must be at least 1")
        self.path, self.steps, self.batch_size = CaptumIntegratedGradients(model), steps, batch_size

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point():
            raise InputError(
                f"Integrated Gradients: the input is {images.dtype}, and a line between token ids has no meaning; give "
                "pictures, or take input_x_gradient"
            )
        count = targets.shape[1]
        pairs = zip(
            images.repeat_interleave(count, 0).split(self.batch_size),
            targets.flatten().split(self.batch_size),
            strict=True,
        )
        found = [
            self.path.attribute(
                inputs,
                baselines=0.0,
                target=classes,
                n_steps=self.steps,
                method="gausslegendre",
                internal_batch_size=self.batch_size,
            )
            for inputs, classes in pairs
        ]
        maps = torch.cat(found).to(images.dtype).unflatten(0, targets.shape)
        return as_maps(maps, images.shape).detach()
