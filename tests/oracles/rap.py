"""RAP, its copy in AGF's code, and LRP-alpha-beta in RAP's code, from the equations, share by share."""

import torch
from oracles.modules import Method, Tape, one_hot, quotient, share, total, with_weight
from torch import Tensor, nn


def shifted(c: Tensor, r: Tensor, epsilon: float) -> Tensor:
    counted = (c != 0).to(c.dtype)
    return c - counted * quotient(total(c) - total(r), total(counted), epsilon)


class RAP(Method):
    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        x, eps = x.detach(), self.epsilon
        above, below = layer.weight.clamp(min=0), layer.weight.clamp(max=0).abs()
        known = (r != 0).to(r.dtype)
        z1, z2 = with_weight(layer, above)(x) * known, with_weight(layer, below)(x) * known
        through = {name: with_weight(layer, w) for name, w in (("above", above), ("below", below))}

        def back(name: str, s: Tensor) -> Tensor:
            v = x.clone().requires_grad_()
            return x * torch.autograd.grad(through[name](v), v, s)[0]

        c = back("above", quotient(r.clamp(min=0), z1, eps))
        if isinstance(layer, nn.Linear):
            c = c + back("above", quotient(r.clamp(max=0), z1, eps))
        else:
            c = c + back("below", quotient(r.clamp(max=0), z2, eps))
        c = c + back("below", quotient(r, z1 + z2, eps) * (z2 != 0))
        return shifted(c, r, eps)

    def class_layer(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        """Every class spreads its start by |w x|, one class after the other."""
        x = x.detach()
        contributions = (layer.weight[None] * x[:, None]).abs()  # (N, classes, inputs)
        return sum(
            quotient(contributions[:, c], contributions[:, c].sum(1, keepdim=True)) * r[:, c : c + 1]
            for c in range(r.shape[1])
        )


class NormByProportion(Method):
    def norm(self, layer: nn.BatchNorm2d, x: Tensor, r: Tensor) -> Tensor:
        w = (layer.weight / torch.sqrt(layer.running_var**2 + layer.eps))[:, None, None]
        return r * x * w / (x * w + 1e-9)


class RAPLogitInit(NormByProportion, RAP):
    epsilon = 1e-9

    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            return share(x, with_weight(layer, layer.weight.abs()), r, self.epsilon)
        return super().affine(layer, x, y, r)

    def class_layer(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        return self.affine(layer, x, y, r)


class AlphaBeta(NormByProportion):
    def __init__(self, alpha: float, beta: float) -> None:
        self.alpha, self.beta = alpha, beta

    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        result = self.alpha * share(x, with_weight(layer, layer.weight.clamp(min=0)), r)
        if self.beta:
            result = result - self.beta * share(x, with_weight(layer, layer.weight.clamp(max=0)), r)
        return result


def relevance(model: nn.Module, images: Tensor, method: Method, start) -> Tensor:
    """Relevance (N, C, H, W) from ``start`` of the logits."""
    tape = Tape(model, images)
    logits = tape.logits.detach()
    return tape.back(method, start(logits), len(tape.layers))


def logit(targets: Tensor):
    return lambda logits: logits * one_hot(logits, targets)
