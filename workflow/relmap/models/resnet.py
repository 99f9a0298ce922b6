"""ResNet (He et al. 2016), version 1.5, as torchvision has it: a bottleneck's stride is in its 3 x 3 convolution."""

from __future__ import annotations

from torch import nn

from relmap.models.narrow import narrow
from relmap.torchvision_shim import torchvision


def resnet18(classes: int, width: float, input_size: int) -> nn.Module:
    """ResNet-18, of blocks of two 3 x 3 convolutions."""
    return _resnet("resnet18", classes, width, input_size)


def resnet50(classes: int, width: float, input_size: int) -> nn.Module:
    """ResNet-50, of bottlenecks."""
    return _resnet("resnet50", classes, width, input_size)


def resnet101(classes: int, width: float, input_size: int) -> nn.Module:
    """ResNet-101, of bottlenecks."""
    return _resnet("resnet101", classes, width, input_size)


def _resnet(name: str, classes: int, width: float, input_size: int) -> nn.Module:
    model = getattr(torchvision.models, name)(num_classes=classes)
    if width != 1:
        narrow(model, width, input_size, "fc")
    return model
