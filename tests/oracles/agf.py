"""AGF from its equations, image by image: explicit matrices for the factorization, autograd for the gradients."""

import torch
from oracles.modules import Method, Tape, one_hot, quotient, share, with_weight
from torch import Tensor, nn

EPS = 1e-9


def by_maximum(v: Tensor) -> Tensor:
    return quotient(v, v.max(), EPS)


def factorized(v: Tensor, phi: Tensor) -> Tensor:
    """v (1, C, h, w) and phi (h, w) to F (h, w)."""
    ref = torch.sigmoid(10 * by_maximum(v))[0].flatten(1)  # (C, pixels)
    columns = []
    for side in (phi < 0, phi > 0):
        side = side.flatten().to(v.dtype)
        columns.append(quotient((ref * side).sum(1), side.sum()))
    q = torch.stack(columns, 1)  # (C, 2)
    weights = (torch.linalg.inv(q.T @ q + torch.eye(2, dtype=v.dtype)) @ q.T @ ref).relu()
    return (weights[1] - weights[0]).relu().view(phi.shape)


class AGF(Method):
    """The tensors of the tape have the gradient of the score in ``grad``."""

    epsilon = EPS

    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        g_in, g_out, x = x.grad, y.grad, x.detach()
        cam = share(x.abs(), with_weight(layer, layer.weight.abs()), r, EPS)
        counted = (cam != 0).to(cam.dtype)
        if isinstance(layer, nn.Linear):
            shape = self.flattened.get(x.shape[1:])
            if shape is None:
                return cam
            guide = (x * g_in).view(1, *shape).mean(1, keepdim=True).relu().expand(1, *shape).reshape(x.shape) * counted
            extra = by_maximum(guide)
        elif layer.kernel_size == (1, 1):
            return cam
        else:
            guide = by_maximum((x * g_in).mean(1, keepdim=True).relu())
            around = share(torch.ones_like(x), with_weight(layer, layer.weight.abs()), r, EPS)
            v = x.clone().requires_grad_()
            (masked,) = torch.autograd.grad(with_weight(layer, layer.weight)(v), v, g_out * (r != 0))
            phi = cam.mean(1)[0]
            extra = (factorized(x, phi) + guide) / (1 + torch.exp(-cam)) + factorized(masked, phi) + around
            extra = extra * counted
        return cam + extra - extra.sum() / counted.sum() * counted

    def norm(self, layer: nn.BatchNorm2d, x: Tensor, r: Tensor) -> Tensor:
        return r

    def relu(self, x: Tensor, r: Tensor) -> Tensor:
        return share(x, torch.relu, r, EPS)

    def join(self, x: Tensor, main: Tensor, skip: Tensor) -> Tensor:
        return x * (quotient(main, x, EPS) + quotient(skip, x, EPS))

    def __init__(self, tape: Tape) -> None:
        """Which linear layer takes a flattened map is known by the flattening's own shapes."""
        index = next(i for i, layer in enumerate(tape.layers) if isinstance(layer, nn.Flatten))
        self.flattened = {tape.x[index + 1].shape[1:]: tape.x[index].shape[1:]}


def relevance(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Relevance (N, C, H, W) before the division by its maximum."""
    return torch.cat([_one(model, images[i : i + 1], targets[i : i + 1]) for i in range(len(images))])


def _one(model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    tape = Tape(model, image)
    y = tape.logits
    at = (y * one_hot(y, target)).sum()
    width = (y - at).abs().max()
    p = (at * torch.exp(-0.5 * ((y - at) / width) ** 2)).softmax(1)
    (p * one_hot(y, target)).sum().backward()
    index = tape.layers.index(tape.class_layer)
    x = tape.x[index]
    return tape.back(AGF(tape), (x * x.grad).detach(), index)
