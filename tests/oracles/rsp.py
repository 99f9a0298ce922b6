"""RSP from its equations: each section's weights are autograd's gradient at the layer's weight, one image at a time."""

import torch
from oracles.modules import Method, Tape, contribution_map, quotient, share, total, with_weight
from torch import Tensor, nn


class RSP(Method):
    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        return torch.cat([self._one(layer, x[i : i + 1].detach(), r[i : i + 1]) for i in range(len(x))])

    def _one(self, layer: nn.Module, x: Tensor, r: Tensor) -> Tensor:
        d = 0
        for sign in (1, -1):
            section = (sign * r).clamp(min=0)
            weight = layer.weight.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad((section * with_weight(layer, weight)(x)).sum(), weight)
            d = d + sign * share(x, with_weight(layer, gradient), section)
        if layer.kernel_size == (1, 1):
            return d
        counted = (d != 0).to(d.dtype)
        return 2 * d - counted * quotient(total(r), total(counted))

    def pool(self, run, x: Tensor, r: Tensor) -> Tensor:
        return share(x + 1e-9, run, r)

    def add(self, main: Tensor, skip: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        main, skip = main.clamp(min=0) + 1e-9, skip.clamp(min=0) + 1e-9
        return r * main / (main + skip), r * skip / (main + skip)


def relevance(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Relevance (N, C, H, W) of images for targets (N,)."""
    tape = Tape(model, images)
    start = contribution_map(tape, targets)
    start = start / (start.flatten(1).amax(1)[:, None, None, None] + 1e-9)
    return tape.back(RSP(), start, tape.last_map())
