r"""Maps that know nothing of the trained network: what a metric gives them, it gives for nothing.

``constant`` is 1 everywhere. ``random`` is uniform in [0, 1), ``random_normal``
standard normal. ``centre_gaussian`` is

.. math:: M(x, y) = \exp\Big(-\tfrac12 \big(\tfrac{x - c_x}{s W}\big)^2 - \tfrac12 \big(\tfrac{y - c_y}{s H}\big)^2\Big)

with c the image's centre: photographs have their object there. ``centre_square`` is 1 in a square there of a quarter of
the image's side, and 0 elsewhere: two ties, which metrics that take a tie at once reward. ``edges`` knows the picture,

.. math:: M = \Big(\sum_c (S * X_c)^2 + (S^T * X_c)^2\Big)^{1/2}, \qquad
    S = \tfrac18 \begin{pmatrix} -1 & 0 & 1 \\ -2 & 0 & 2 \\ -1 & 0 & 1 \end{pmatrix},

over its channels c, the border repeated. ``random_network`` is another method's map of the network with random weights
(Adebayo et al. 2018): what is left of it when nothing was learned.
"""

from __future__ import annotations

import copy
import warnings
import zlib
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError, RelevanceWarning
from relmap.explainers.base import Explainer
from relmap.explainers.building import build
from relmap.job.seeds import derive
from relmap.network.random_weights import randomise


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


class CentreSquare(Explainer):
    """1 in the middle, 0 elsewhere; ``side`` of the middle in sides of the image, in whole pixels, at least one."""

    def __init__(self, model: nn.Module, *, side: float = 0.25) -> None:
        self.side = side

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = _blank(images, targets)
        middle: list[slice] = []
        for whole in maps.shape[2:]:
            length = max(1, round(self.side * whole))
            middle.append(slice((whole - length) // 2, (whole - length) // 2 + length))
        maps[(slice(None), slice(None), *middle)] = 1
        return maps


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


class Edges(Explainer):
    """Magnitude of the picture's gradient by Sobel's filter; the same for all classes."""

    def __init__(self, model: nn.Module) -> None:
        pass

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = _blank(images, targets)
        # Of one type with the maps: half precision is too coarse for differences.
        channels = F.pad(images.to(maps.dtype), (1, 1, 1, 1), mode="replicate").flatten(0, 1).unsqueeze(1)
        across = channels.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        slopes = F.conv2d(channels, torch.stack([across, across.T]).unsqueeze(1))
        edges = slopes.square().unflatten(0, images.shape[:2]).sum((1, 2)).sqrt()
        return maps + edges.unsqueeze(1)


class RandomNetwork(Explainer):
    """Maps by another method of a copy of the network whose weights are random.

    The running statistics of batch norms stay, and it computes in float64, as in ``metrics.cascade``.
    """

    def __init__(self, model: nn.Module, *, explainer: str, seed: int = 0) -> None:
        network = copy.deepcopy(model).double().eval()
        randomise(network, [name for name, _ in network.named_parameters()], seed)
        self.explainer = build(network, explainer)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        given = images.double() if images.is_floating_point() else images
        with warnings.catch_warnings():
            # That maps of a random network are empty or explode is no fault of its own.
            warnings.simplefilter("ignore", RelevanceWarning)
            return self.explainer(given, targets).to(_blank(images, targets).dtype)


def _blank(images: Tensor, targets: Tensor) -> Tensor:
    """Zeros (N, K, H, W), or (N, K, T) for tokens."""
    spatial = images.shape[2:] if images.dim() == 4 else images.shape[1:]
    kind = images.dtype if images.is_floating_point() else torch.float32
    return torch.zeros(*targets.shape, *spatial, dtype=kind, device=images.device)
