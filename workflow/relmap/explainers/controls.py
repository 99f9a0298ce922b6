r"""Maps that know nothing of the network: what a metric gives them, it gives for nothing.

``constant`` is 1 everywhere. ``random`` is uniform in [0, 1), ``random_normal``
standard normal. ``centre_gaussian`` is

.. math:: M(x, y) = \exp\Big(-\tfrac12 \big(\tfrac{x - c_x}{s W}\big)^2 - \tfrac12 \big(\tfrac{y - c_y}{s H}\big)^2\Big)

with c the image's centre: photographs have their object there.
"""

from __future__ import annotations

import zlib
from typing import Literal

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.job.seeds import derive


class Constant(Explainer):
    """1 everywhere."""

    def __init__(self, model: nn.Module) -> None:
        pass

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return _blank(images, targets) + 1


class CentreGaussian(Explainer):
    """A Gaussian blob at the centre; ``sigma`` in sides of the image."""

    def __init__(self, model: nn.Module, *, sigma: float = 0.25) -> None:
        self.sigma = sigma

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = _blank(images, targets)
        for axis in range(2, maps.dim()):
            side = maps.shape[axis]
            place = (torch.arange(side, device=maps.device, dtype=maps.dtype) + 0.5) / side - 0.5
            maps = maps - (place / self.sigma).square().view(-1, *[1] * (maps.dim() - 1 - axis)) / 2
        return maps.exp()


class Random(Explainer):
    """Noise that follows from the picture, the class and the seed, so that no batch changes it.

    Args:
        model: is not looked at.
        seed: of the noise.
        law: ``uniform`` in [0, 1), or standard ``normal``.
    """

    def __init__(self, model: nn.Module, *, seed: int = 0, law: Literal["uniform", "normal"] = "uniform") -> None:
        draws = {"uniform": torch.rand, "normal": torch.randn}
        if law not in draws:
            raise InputError(f"law {law!r} is unknown; choose one of {', '.join(draws)}")
        self.seed, self.draw = seed, draws[law]

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = _blank(images, targets).cpu()
        for picture, classes, own in zip(images.cpu(), targets.tolist(), maps, strict=True):
            content = zlib.crc32(picture.contiguous().float().numpy().tobytes())
            for target, one in zip(classes, own, strict=True):
                generator = torch.Generator().manual_seed(derive(self.seed, "random", content, target))
                one.copy_(self.draw(one.shape, generator=generator))
        return maps.to(images.device)


def _blank(images: Tensor, targets: Tensor) -> Tensor:
    """Zeros (N, K, H, W), or (N, K, T) for tokens."""
    spatial = images.shape[2:] if images.dim() == 4 else images.shape[1:]
    kind = images.dtype if images.is_floating_point() else torch.float32
    return torch.zeros(*targets.shape, *spatial, dtype=kind, device=images.device)
