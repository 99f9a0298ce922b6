"""C3-LRP and its successor for torchvision's ResNets, module by module with plain autograd: slow, and nothing clever.

Every function explains one class per image of a batch, (N,); float64 is wanted. Nothing here uses relmap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """A ResNet's layers as C3-LRP counts them: a block is one of them."""
    stages = (("layer1", model.layer1), ("layer2", model.layer2), ("layer3", model.layer3), ("layer4", model.layer4))
    blocks = [(f"{stage}.{i}", block) for stage, module in stages for i, block in enumerate(module)]
    stem = [("conv1", model.conv1), ("bn1", model.bn1), ("relu", model.relu), ("maxpool", model.maxpool)]
    return [*stem, *blocks, ("gap", model.avgpool)]


def c3_lrp(
    model: nn.Module,
    images: Tensor,
    start: Tensor,
    epsilon: float,
    signed: bool = False,
    relu_by_equation_1: bool = False,
    batch_norm_identity: bool = False,
) -> dict[str, Tensor]:
    """Relevance (N, C, H, W) at the input of each layer by name, from fc down to conv1, for ``start`` (N, classes)."""

    def stable(z: Tensor) -> Tensor:
        return torch.where(z < 0, z - epsilon, z + epsilon) if signed else z + epsilon

    inputs, value = [], images
    for _, layer in _layers(model):
        inputs.append(value)
        value = layer(value.clone())  # ReLUs in place
    features = value.flatten(1)
    weight = model.fc.weight
    relevance = features * ((start / stable(features @ weight.T)) @ weight)
    relevance = relevance.view_as(value)
    found = {"fc": relevance}
    for (name, layer), z in reversed(list(zip(_layers(model), inputs, strict=True))):
        passes = (name == "relu" and not relu_by_equation_1) or (name == "bn1" and batch_norm_identity)
        if not passes:
            z = z.detach().requires_grad_()
            out = layer(z.clone())
            (gradient,) = torch.autograd.grad(out, z, relevance / stable(out.detach()))
            relevance = z.detach() * gradient
        found[name] = relevance
    return found


def _share(layer: Callable[[Tensor], Tensor], a: Tensor, relevance: Tensor) -> Tensor:
    """``a * d/da z (R / z)``, z = layer(a) + 1e-5."""
    a = a.detach().requires_grad_()
    z = layer(a) + 1e-5
    (gradient,) = torch.autograd.grad(z, a, relevance / z.detach())
    return a.detach() * gradient


def _positive(module: nn.Module) -> nn.Module:
    """A convolution with its bias, or a linear layer without it, whose negative weights are 0."""
    module = copy.deepcopy(module)
    module.weight.data.clamp_(min=0)
    if isinstance(module, nn.Linear):
        module.bias = None
    return module


def released_resnet(model: nn.Module, images: Tensor, start: Tensor, mode: str) -> Tensor:
    """The successor's propagation on a ResNet of Bottlenecks, relevance (N, 3, H, W) at the image."""

    def pool(a: Tensor) -> Tensor:
        return F.avg_pool2d(a, 2, 2)

    # forward, remembering what each convolution sees
    stem = F.relu(model.bn1(model.conv1(images)))
    a = model.maxpool(stem)
    seen = []
    for name, block in _layers(model)[4:-1]:
        first = F.relu(block.bn1(block.conv1(a)))
        second = F.relu(block.bn2(block.conv2(first)))
        main = block.bn3(block.conv3(second))
        skip = a if block.downsample is None else block.downsample(a)
        seen.append((name, block, a, first, second, main, skip))
        a = F.relu(main + skip)
    features = a.mean((2, 3))
    relevance = _share(_positive(model.fc), features, start)
    relevance = _share(lambda x: x.mean((2, 3)), a, relevance)
    for _, block, a, first, second, main, skip in reversed(seen):
        by_size = main.abs() / (main.abs() + skip.abs())
        projects = block.downsample is not None
        share = {
            "flows_skip": by_size,
            "simple": torch.full_like(main, 0.5 if projects else 1.0),
            "flows_skip_simple": torch.full_like(main, 0.5),
            "latest": by_size if projects else torch.ones_like(main),
        }[mode]
        inner = _share(_positive(block.conv3), second, relevance * share)
        inner = _share(_positive(block.conv2), first, inner)
        inner = _share(_positive(block.conv1), a, inner)
        outer = relevance * (1 - share)
        relevance = inner + (_share(_positive(block.downsample[0]), a, outer) if projects else outer)
    relevance = _share(pool, stem, relevance)
    return _share(_positive(model.conv1), torch.ones_like(images), relevance)


def released_chain(model: nn.Module, images: Tensor, start: Tensor) -> Tensor:
    """The successor's propagation on torchvision's VGG: no block, so all its modes are one."""
    steps: list[tuple[nn.Module | Callable, Tensor]] = []
    a = images
    for module in (*model.features, model.avgpool, nn.Flatten(1), *model.classifier):
        steps.append((module, a))
        a = module(a.clone())
    relevance = start
    for module, a in reversed(steps):
        match module:
            case nn.Conv2d():
                a = torch.ones_like(a) if module is model.features[0] else a
                relevance = _share(_positive(module), a, relevance)
            case nn.Linear():
                relevance = _share(_positive(module), a, relevance)
            case nn.MaxPool2d():
                relevance = _share(nn.AvgPool2d(2, 2), a, relevance)
            case nn.AdaptiveAvgPool2d():
                relevance = _share(module, a, relevance)
            case nn.Flatten():
                relevance = relevance.view_as(a)
    return relevance


def c3_chain(layers: list[nn.Module], images: Tensor, start: Tensor, epsilon: float) -> Tensor:
    """C3-LRP with the signed stabiliser on a network without blocks, relevance (N, 3, H, W) at the image.

    ReLUs, dropout and flattening pass relevance on.
    """
    inputs, value = [], images
    for layer in layers:
        inputs.append(value)
        value = layer(value.clone())
    relevance = start
    for layer, z in reversed(list(zip(layers, inputs, strict=True))):
        if isinstance(layer, nn.ReLU | nn.Dropout | nn.Flatten):
            relevance = relevance.view_as(z)
            continue
        z = z.detach().requires_grad_()
        out = layer(z)
        denominator = (out - layer.bias if isinstance(layer, nn.Linear) else out).detach()
        denominator = torch.where(denominator < 0, denominator - epsilon, denominator + epsilon)
        (gradient,) = torch.autograd.grad(out, z, relevance / denominator)
        relevance = z.detach() * gradient
    return relevance
