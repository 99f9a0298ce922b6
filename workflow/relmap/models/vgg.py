"""VGG (Simonyan and Zisserman 2014) without batch norm, and AlexNet (Krizhevsky 2014), whose head is the same.

Below the published input size they pool to as many cells as the last feature map has, and the two hidden layers of the
head shrink likewise.
"""

from __future__ import annotations

from torch import nn

from relmap.models.narrow import narrow, scaled
from relmap.torchvision_shim import torchvision

VGG_STRIDE, VGG_POOL = 32, 7
_ALEXNET_POOL = 6


def hidden_units(width: float, cells: int, published: int = VGG_POOL) -> int:
    """Units of a hidden layer behind ``cells`` x ``cells`` positions, where the published network has ``published``."""
    hidden = scaled(4096, width)
    return hidden if cells == published else max(64, round(hidden * cells / published / 64) * 64)


def vgg11(classes: int, width: float, input_size: int) -> nn.Module:
    """VGG-11, configuration A."""
    return _vgg("vgg11", classes, width, input_size)


def vgg16(classes: int, width: float, input_size: int) -> nn.Module:
    """VGG-16, configuration D."""
    return _vgg("vgg16", classes, width, input_size)


def vgg19(classes: int, width: float, input_size: int) -> nn.Module:
    """VGG-19, configuration E."""
    return _vgg("vgg19", classes, width, input_size)


def _vgg(name: str, classes: int, width: float, input_size: int) -> nn.Module:
    model = getattr(torchvision.models, name)(num_classes=classes, init_weights=False)
    return _fitted(model, (0, 3), width, input_size, input_size // VGG_STRIDE, VGG_POOL)


def alexnet(classes: int, width: float, input_size: int) -> nn.Module:
    """AlexNet, the one-column version of torchvision."""
    model = torchvision.models.alexnet(num_classes=classes)
    model.last_feature_map = "features.12"  # after the last pool, where Attribution Equilibrium's authors start
    return _fitted(model, (1, 4), width, input_size, _alexnet_cells(input_size), _ALEXNET_POOL)


def _alexnet_cells(input_size: int) -> int:
    """Side of the last feature map: a convolution of 11 with stride 4 and padding 2, and three pools of 3 by 2."""
    side = (input_size - 7) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side


def _fitted(
    model: nn.Module, hidden: tuple[int, int], width: float, input_size: int, found: int, published: int
) -> nn.Module:
    """A network at its width and size; ``hidden``: places of the hidden layers in ``classifier``."""
    cells = min(published, found)
    if width == 1 and cells == published:
        return model
    model.avgpool = nn.AdaptiveAvgPool2d((cells, cells))
    for index in hidden:
        model.classifier[index].out_features = hidden_units(width, cells, published)
    narrow(model, width, input_size, "classifier")
    return model
