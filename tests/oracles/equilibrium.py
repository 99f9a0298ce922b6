"""Algorithm 1 of the Attribution Equilibrium paper line by line, for torchvision's VGG and ResNet.

Each share ``J(v, |W|, R)`` is its own forward convolution and autograd's way back: C is two of them, A and U one each.
The sums are over one image. Where the algorithm is silent this takes the default reading of PROTOCOLS.md: additions
share by absolute contributions.
"""

import torch
from oracles.modules import Method, Tape, contribution_map, quotient, share, total, with_weight
from torch import Tensor, nn


class Algorithm1(Method):
    """``scale`` (N, 1, 1, 1) is what Eq. 6 scales P and N to, tau = 1 by default; ``terms`` are those of Eq. 13."""

    def __init__(self, gamma: float, terms: str = "C+A+U+Psi", scale: Tensor | float = 1.0) -> None:
        self.gamma, self.terms, self.scale = gamma, terms.split("+"), scale

    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        x = x.detach()
        pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
        gamma = 1.0 if pointwise else self.gamma
        positive, negative = r.clamp(min=0), r.clamp(max=0)
        positive = quotient(positive, total(positive)) * self.scale
        negative = quotient(negative, -total(negative)) * self.scale
        alpha = (x > 0).to(x.dtype)
        beta = 1 - alpha
        absolute = with_weight(layer, layer.weight.abs())
        parts = {
            "C": share(x, absolute, gamma * positive) + share(x, absolute, negative),
            "A": share(alpha, absolute, positive),
            "U": share(beta, absolute, negative),
            "Psi": -quotient(alpha, total(alpha)) * (0 if pointwise else 1),
        }
        return sum(parts[name] for name in self.terms)

    def pool(self, run, x: Tensor, r: Tensor) -> Tensor:
        return share(x.clamp(min=0) + 1e-9, run, r)

    def add(self, main: Tensor, skip: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        s = quotient(r, main.abs() + skip.abs())
        return main.abs() * s, skip.abs() * s


def attribution_equilibrium(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    gamma: float = 1.0,
    terms: str = "C+A+U+Psi",
    printed: bool = False,
) -> Tensor:
    """Relevance (N, C, H, W) of images for targets (N,); z^B takes each image's own extremes.

    ``printed``: P and N are scaled to the sum of |G|, as Eq. 6 has it, and not to |sum G| = 1.
    """
    with torch.enable_grad():
        tape = Tape(model, images)
        contributions = contribution_map(tape, targets)
        start = quotient(contributions, total(contributions).abs())
        method = Algorithm1(gamma, terms, total(start.abs()) if printed else 1.0)
        return tape.back(method, start, tape.last_map())
