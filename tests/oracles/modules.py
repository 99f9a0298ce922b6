"""Relevance back through torchvision's VGG and ResNet module by module: plain autograd, nothing shared or merged.

A method is an object with one function per kind of module (``Method``). The forward pass keeps every tensor with its
gradient graph; each share of relevance is a forward and a backward pass of its own.
"""

from collections.abc import Callable

import relmap.torchvision_shim  # noqa: F401  before torchvision
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck


def quotient(r: Tensor, z: Tensor, epsilon: float = 0.0) -> Tensor:
    """r / (z + epsilon), 0 where z is 0."""
    return torch.where(z == 0, 0, r / torch.where(z == 0, 1, z + epsilon))


def share(v: Tensor, run: Callable[[Tensor], Tensor], r: Tensor, epsilon: float = 0.0) -> Tensor:
    """J(v, run, r) = v * d run(v)/dv applied to r / run(v)."""
    v = v.detach().clone().requires_grad_()
    z = run(v)
    return (v * torch.autograd.grad(z, v, quotient(r, z.detach(), epsilon))[0]).detach()


def with_weight(layer: nn.Module, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A convolution or linear layer with another weight and without its bias."""
    if isinstance(layer, nn.Linear):
        return lambda v: F.linear(v, weight)
    return lambda v: F.conv2d(v, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def total(r: Tensor) -> Tensor:
    """Sum over each image, in a shape that goes with ``r``."""
    return r.flatten(1).sum(1).view(-1, *[1] * (r.dim() - 1))


class Method:
    """Defaults: ReLU and batch norm pass relevance on, pools share by their inputs, branches by signed shares."""

    epsilon = 0.0

    def affine(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        raise NotImplementedError

    def class_layer(self, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        return self.affine(layer, x, y, r)

    def first(self, layer: nn.Conv2d, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        """z^B with the image's own extremes over all channels."""
        w = layer.weight
        terms = [(x, w, 1), (torch.ones_like(x) * x.amin((1, 2, 3), keepdim=True), w.clamp(min=0), -1)]
        terms += [(torch.ones_like(x) * x.amax((1, 2, 3), keepdim=True), w.clamp(max=0), -1)]
        leaves = [v.detach().clone().requires_grad_() for v, _, _ in terms]
        z = sum(sign * with_weight(layer, v)(leaf) for leaf, (_, v, sign) in zip(leaves, terms, strict=True))
        back = torch.autograd.grad(z, leaves, quotient(r, z.detach()))
        return sum(leaf.detach() * g for leaf, g in zip(leaves, back, strict=True))

    def norm(self, layer: nn.BatchNorm2d, x: Tensor, r: Tensor) -> Tensor:
        return r * (x != 0)

    def relu(self, x: Tensor, r: Tensor) -> Tensor:
        return r

    def pool(self, run: Callable[[Tensor], Tensor], x: Tensor, r: Tensor) -> Tensor:
        return share(x, run, r, self.epsilon)

    def add(self, main: Tensor, skip: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        s = quotient(r, main + skip, self.epsilon)
        return main * s, skip * s

    def join(self, x: Tensor, main: Tensor, skip: Tensor) -> Tensor:
        return main + skip


def layers(model: nn.Module) -> list[nn.Module]:
    if isinstance(model, ResNet):
        blocks = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
        return [model.conv1, model.bn1, model.relu, model.maxpool, *blocks, model.avgpool, nn.Flatten(), model.fc]
    return [*model.features, model.avgpool, nn.Flatten(), *model.classifier]


class Tape:
    """A forward pass whose tensors keep their gradients; ``back`` goes through it with a method."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.layers = layers(model)
        self.class_layer = [layer for layer in self.layers if isinstance(layer, nn.Linear)][-1]
        self.x: list[Tensor] = [images.detach().clone().requires_grad_()]
        self.inside: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for index, layer in enumerate(self.layers):
            self.x.append(self._forward(index, layer, self.x[-1]))
        for x in self.x:
            x.retain_grad()

    @property
    def logits(self) -> Tensor:
        return self.x[-1]

    def _forward(self, index: int, layer: nn.Module, x: Tensor) -> Tensor:
        if not isinstance(layer, Bottleneck):
            return F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        main, skip = [x], [x]
        for inner in self.branches(layer)[0]:
            main.append(F.relu(main[-1]) if isinstance(inner, nn.ReLU) else inner(main[-1]))
        for inner in self.branches(layer)[1]:
            skip.append(inner(skip[-1]))
        for tensor in main[1:] + skip[1:]:
            tensor.retain_grad()
        self.inside[index] = (main, skip)
        return F.relu(main[-1] + skip[-1])

    @staticmethod
    def branches(block: Bottleneck) -> tuple[list[nn.Module], list[nn.Module]]:
        main = [block.conv1, block.bn1, block.relu, block.conv2, block.bn2, block.relu, block.conv3, block.bn3]
        return main, list(block.downsample or [])

    def last_map(self) -> int:
        """Index of the last feature map: what the last pools before the flattening take."""
        index = next(i for i, layer in enumerate(self.layers) if isinstance(layer, nn.Flatten))
        while isinstance(self.layers[index - 1], nn.AdaptiveAvgPool2d | nn.MaxPool2d):
            index -= 1
        return index

    def back(self, method: Method, r: Tensor, at: int, to: int = 0) -> Tensor:
        """Relevance ``r`` of tensor ``at`` to that of tensor ``to``."""
        for index in reversed(range(to, at)):
            x, y = self.x[index], self.x[index + 1]
            r = self._block(method, index, x, r) if index in self.inside else self._step(method, index, x, y, r)
        return r

    def _step(self, method: Method, index: int, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        layer = self.layers[index]
        if index == 0:
            return method.first(layer, x.detach(), y, r)
        if layer is self.class_layer:
            return method.class_layer(layer, x, y, r)
        return step(method, layer, x, y, r)

    def _block(self, method: Method, index: int, x: Tensor, r: Tensor) -> Tensor:
        main, skip = self.inside[index]
        r = method.relu((main[-1] + skip[-1]).detach(), r)
        r_main, r_skip = method.add(main[-1].detach(), skip[-1].detach(), r)
        for tensors, inner, which in ((main, 0, "main"), (skip, 1, "skip")):
            part = r_main if which == "main" else r_skip
            for i, layer in reversed(list(enumerate(self.branches(self.layers[index])[inner]))):
                part = step(method, layer, tensors[i], tensors[i + 1], part)
            r_main, r_skip = (part, r_skip) if which == "main" else (r_main, part)
        return method.join(x.detach(), r_main, r_skip)


def step(method: Method, layer: nn.Module, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    match layer:
        case nn.Conv2d() | nn.Linear():
            return method.affine(layer, x, y, r)
        case nn.BatchNorm2d():
            return method.norm(layer, x.detach(), r)
        case nn.ReLU():
            return method.relu(x.detach(), r)
        case nn.MaxPool2d() | nn.AdaptiveAvgPool2d():
            return method.pool(layer, x.detach(), r)
        case nn.Flatten():
            return r.view(x.shape)
        case nn.Dropout():
            return r
    raise NotImplementedError(type(layer).__name__)


def one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    return F.one_hot(targets, logits.shape[1]).to(logits.dtype)


def contribution_map(tape: Tape, targets: Tensor) -> Tensor:
    """Activation times the mean gradient of the targets' logits at the last feature map."""
    a = tape.x[tape.last_map()]
    (gradient,) = torch.autograd.grad((tape.logits * one_hot(tape.logits, targets)).sum(), a, retain_graph=True)
    return (a * gradient.mean((2, 3), keepdim=True)).detach()
