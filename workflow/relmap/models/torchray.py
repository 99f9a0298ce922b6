"""TorchRay's fully convolutional VGG-16 and ResNet-50 for VOC 2007 and COCO 2014 (Zhang et al. 2018, from Caffe).

Images of any size, normalised with ``MEAN`` and ``STD``, to logits (N, classes, h, w): VGG-16 looks at every 7 x 7
window of its last feature map, ResNet-50 averages the whole map (h = w = 1). Both differ from torchvision's as Caffe
does: pools round up, and the ResNet has strides in its 1 x 1 convolutions, a bias in ``conv1`` and no padding in its
pool.

The distributed files are plain state dicts, with these names:

- ``vgg16_voc-b050e8c3.pth.tar``, ``vgg16_coco-d82c8150.pth.tar``: ``features.<i>.weight``, ``features.<i>.bias`` as in
  torchvision; ``classifier.0``, ``classifier.2``, ``classifier.4``, there without the dropouts, so that they are
  ``classifier.0``, ``.3`` and ``.6`` here;
- ``resnet50_voc-9ca920d6.pth.tar``, ``resnet50_coco-e99468c5.pth.tar``: torchvision's, but each batch norm is two
  layers, ``bn1.0`` (statistics) and ``bn1.1`` (weight and bias), ``downsample.1.0`` and ``downsample.1.1``.

Their first convolution takes BGR and is turned to RGB.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from relmap.catalogue.models import CAFFE
from relmap.errors import InputError
from relmap.job.files import sha256_file
from relmap.models.card import assign_weights
from relmap.models.narrow import narrow, scaled
from relmap.models.vgg import VGG_POOL, VGG_STRIDE, hidden_units
from relmap.torchvision_shim import torchvision

MEAN, STD = CAFFE["mean"], CAFFE["std"]
CLASSES = {"voc": 20, "coco": 80}

_VGG_FROM_FILE = {"classifier.2": "classifier.3", "classifier.4": "classifier.6"}


class FullyConvolutionalVGG(nn.Module):
    """torchvision's VGG-16 with its linear layers as convolutions over the last feature map.

    Args:
        classes: number of outputs.
        width: factor on the channel counts.
        window: side, in cells of the last feature map, of what ``classifier.0`` looks at.
        round_up: whether pools round up, as Caffe's do.
    """

    last_feature_map = "features.29"

    def __init__(self, classes: int, width: float = 1.0, window: int = VGG_POOL, *, round_up: bool = True) -> None:
        super().__init__()
        channels = [each if each == "M" else scaled(each, width) for each in torchvision.models.vgg.cfgs["D"]]
        last, hidden = channels[-2], hidden_units(width, window)
        self.features = torchvision.models.vgg.make_layers(channels)
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = round_up
        self.classifier = nn.Sequential(
            nn.Conv2d(last, hidden, window),
            nn.ReLU(),
            nn.Dropout(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Dropout(),
            nn.Conv2d(hidden, classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class SlidingVGG(FullyConvolutionalVGG):
    """torchvision's VGG-16 slid over a larger image: the mean of its logits over all windows, (N, classes).

    At its own input size there is one window, and it is torchvision's network.
    """

    def __init__(self, classes: int, width: float = 1.0, window: int = VGG_POOL) -> None:
        super().__init__(classes, width, window, round_up=False)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).mean((2, 3))


class PooledVGG(FullyConvolutionalVGG):
    """The same layers behind an adaptive pool to one window, as torchvision's are: (N, classes) at any size.

    At the network's own input size it is the fully convolutional one.
    """

    def __init__(self, classes: int, width: float = 1.0, window: int = VGG_POOL) -> None:
        super().__init__(classes, width, window, round_up=False)
        self.avgpool = nn.AdaptiveAvgPool2d(window)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images))).flatten(1)


class FullyConvolutionalResNet(torchvision.models.ResNet):
    """Caffe's ResNet-50, with its linear layer as a convolution of the averaged feature map."""

    def __init__(self, classes: int, layers: tuple[int, int, int, int] = (3, 4, 6, 3)) -> None:
        super().__init__(torchvision.models.resnet.Bottleneck, list(layers))
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for stage in (self.layer2, self.layer3, self.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        self.fc = nn.Conv2d(self.fc.in_features, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


def _window(input_size: int) -> int:
    """The side of the last feature map of a square image, at most the published network's."""
    return min(VGG_POOL, input_size // VGG_STRIDE)


def vgg16(classes: int, width: float, input_size: int) -> nn.Module:
    """TorchRay's VGG-16; its window is the whole of an image of ``input_size``, 7 x 7 at 224 px."""
    return FullyConvolutionalVGG(classes, width, _window(input_size))


def sliding_vgg16(classes: int, width: float, input_size: int) -> nn.Module:
    """torchvision's VGG-16 for images larger than ``input_size``."""
    return SlidingVGG(classes, width, _window(input_size))


def pooled_vgg16(classes: int, width: float, input_size: int) -> nn.Module:
    """TorchRay's VGG-16 with an adaptive pool in the place of windows."""
    return PooledVGG(classes, width, _window(input_size))


def resnet50(classes: int, width: float, input_size: int) -> nn.Module:
    """TorchRay's ResNet-50."""
    model = FullyConvolutionalResNet(classes)
    if width != 1:
        narrow(model, width, input_size, "fc")
    return model


_NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "vgg16": FullyConvolutionalVGG,
    "resnet50": FullyConvolutionalResNet,
}


def load_torchray(path: str | os.PathLike) -> nn.Module:
    """The network of a file under its distributed name, such as ``vgg16_voc-b050e8c3.pth.tar``, in evaluation mode.

    Raises:
        InputError: the file is absent, renamed, damaged, or of another network.
    """
    path = Path(path)
    name = re.fullmatch(r"(vgg16|resnet50)_(voc|coco)-([0-9a-f]{8,64})\.pth\.tar", path.name)
    if name is None:
        raise InputError(
            f"{path}: not a name of TorchRay's files, such as vgg16_voc-b050e8c3.pth.tar; keep their names"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; download it, or put it into the mirror directory")
    found = sha256_file(path)
    if not found.startswith(name[3]):
        raise InputError(f"{path}: its checksum begins with {found[:8]}, not {name[3]}; delete it and download again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise InputError(f"{path}: not a file of weights that torch can read ({error}); download it again") from error
    with torch.device("meta"):
        model = _NETWORKS[name[1]](CLASSES[name[2]])
    assign_weights(model, fitted(state, model), str(path))
    return model.eval().requires_grad_(False)


def fitted(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A distributed state dict with the names, shapes and channel order of ``model``."""
    wanted = model.state_dict()
    result = {name: torch.tensor(0) for name in wanted if name.endswith("num_batches_tracked")}
    for name, value in state.items():
        name = _renamed(name, isinstance(model, FullyConvolutionalVGG))
        if name in wanted and value.numel() == wanted[name].numel():
            value = value.reshape(wanted[name].shape)  # the linear layers' weights
        if name in ("features.0.weight", "conv1.weight"):
            value = value.flip(1)
        result[name] = value
    return result


def _renamed(name: str, vgg: bool) -> str:
    if not vgg:
        return re.sub(r"(bn\d|downsample\.1)\.[01]\.", r"\1.", name)
    layer, _, parameter = name.rpartition(".")
    return f"{_VGG_FROM_FILE.get(layer, layer)}.{parameter}"
