"""z+ without bias on torchvision's ResNets of Bottlenecks, module by module with plain autograd.

Batch norms pass relevance on, additions share it by the signed addends, maximum pools send it to the winner. This is
TorchRay's excitation backpropagation with its patch for skip connections, and Relevance-CAM's z+, whose convolutions
have no bias here. Nothing here uses relmap.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _plus(layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """``x * W+^T (R / (W+ x))``, 0 where nothing arrives."""
    x = x.detach().requires_grad_()
    weight = layer.weight.clamp(min=0)
    if isinstance(layer, nn.Conv2d):
        z = F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    else:
        z = F.linear(x, weight)
    s = torch.where(z == 0, 0, relevance / z.detach())
    (gradient,) = torch.autograd.grad(z, x, s.detach())
    return x.detach() * gradient


def _gradient(run: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(run(x), x, relevance)[0]


def excitation_resnet(
    model: nn.Module, images: Tensor, start: Tensor, contrastive: bool = False, copy: bool = False
) -> dict[str, Tensor]:
    """Relevance (N, c, h, w) at the output of ``avgpool``, each stage (``layer3``), ``maxpool`` and the image.

    ``copy``: without the patch, each addend takes all the relevance, and ReLUs take the gradient.
    """
    stem = F.relu(model.bn1(model.conv1(images)))
    a = F.max_pool2d(stem, 3, 2, 1)
    seen = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in getattr(model, stage):
            first = F.relu(block.bn1(block.conv1(a)))
            second = F.relu(block.bn2(block.conv2(first)))
            main = block.bn3(block.conv3(second))
            skip = a if block.downsample is None else block.downsample(a)
            seen.append((stage, block, a, first, second, main, skip))
            a = F.relu(main + skip)
    features = a.mean((2, 3))
    relevance = _plus(model.fc, features, start)
    if contrastive:
        model.fc.weight.data.neg_()
        relevance = relevance - _plus(model.fc, features, start)
        model.fc.weight.data.neg_()
    found = {"avgpool": relevance}
    share = relevance / features
    relevance = a * _gradient(lambda x: x.mean((2, 3)), a, torch.where(features == 0, 0, share))
    for stage, block, a, first, second, main, skip in reversed(seen):
        found.setdefault(stage, relevance)
        share = torch.where(main + skip == 0, 0, relevance / (main + skip))
        whole = relevance * (main + skip > 0)
        inner, outer = (whole, whole) if copy else (main * share, skip * share)
        inner = _plus(block.conv3, second, inner)
        inner = _plus(block.conv1, a, _plus(block.conv2, first, inner))
        relevance = inner + (outer if block.downsample is None else _plus(block.downsample[0], a, outer))
    found["maxpool"] = relevance
    relevance = _gradient(lambda x: F.max_pool2d(x, 3, 2, 1), stem, relevance)
    relevance = relevance * (stem > 0) if copy else relevance
    found["input"] = _plus(model.conv1, images, relevance)
    return found
