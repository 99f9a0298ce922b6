"""Algorithm 1 of the Attribution Equilibrium paper line by line, for torchvision's VGG and ResNet.

Each share ``J(v, |W|, R)`` is its own forward convolution and autograd's way back: C is two of them, A and U one each.
The sums are over one image. Where the algorithm is silent this takes the default reading of PROTOCOLS.md: additions
share by absolute contributions.
"""

import torch
from oracles.modules import Method, Tape, contribution_map, quotient, share, total, with_weight
from torch import Tensor, nn


class Algorithm1(Method):
    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        x = x.detach()
        pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
        gamma = 1.0 if pointwise else self.gamma
        positive, negative = r.clamp(min=0), r.clamp(max=0)
        positive, negative = quotient(positive, total(positive)), quotient(negative, -total(negative))
        alpha = (x > 0).to(x.dtype)
        beta = 1 - alpha
        absolute = with_weight(layer, layer.weight.abs())
        c = share(x, absolute, gamma * positive) + share(x, absolute, negative)
        a = share(alpha, absolute, positive)
        u = share(beta, absolute, negative)
        return c + a + u - (0 if pointwise else quotient(alpha, total(alpha)))

    def pool(self, run, x: Tensor, r: Tensor) -> Tensor:
        return share(x.clamp(min=0) + 1e-9, run, r)

    def add(self, main: Tensor, skip: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        s = quotient(r, main.abs() + skip.abs())
        return main.abs() * s, skip.abs() * s


def attribution_equilibrium(model: nn.Module, images: Tensor, targets: Tensor, gamma: float = 1.0) -> Tensor:
    """Relevance (N, C, H, W) of images for targets (N,); z^B takes each image's own extremes."""
    with torch.enable_grad():
        tape = Tape(model, images)
        contributions = contribution_map(tape, targets)
        return tape.back(Algorithm1(gamma), quotient(contributions, total(contributions).abs()), tape.last_map())
