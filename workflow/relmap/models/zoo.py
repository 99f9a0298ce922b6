"""Torchvision's architectures, at their own size or narrowed for small pictures.

A narrowed network keeps torchvision's module tree and names; only channel counts change. A configuration that names
layers therefore reads the same for the demo and for the full run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from relmap.catalogue.imported import from_file
from relmap.catalogue.models import MODELS, Model
from relmap.errors import InputError, suggestion
from relmap.torchvision_shim import torchvision

SMALLEST_INPUT = 32
_VGG_STRIDE = 32
_VGG_POOL = 7


def _scaled(count: int, width: float) -> int:
    return max(1, round(count * width))


def _narrow(model: nn.Module, width: float) -> None:
    """Multiply the channel counts of all convolutions and batch norms by ``width``, in place (the 3 inputs stay)."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                replacement: nn.Module = nn.Conv2d(
                    child.in_channels if child.in_channels == 3 else _scaled(child.in_channels, width),
                    _scaled(child.out_channels, width),
                    child.kernel_size,
                    child.stride,
                    child.padding,
                    child.dilation,
                    child.groups,
                    bias=child.bias is not None,
                    padding_mode=child.padding_mode,
                )
            elif isinstance(child, nn.BatchNorm2d):
                replacement = nn.BatchNorm2d(_scaled(child.num_features, width), child.eps, child.momentum)
            else:
                continue
            setattr(module, name, replacement)


def vgg16(classes: int, width: float, input_size: int) -> nn.Module:
    """VGG-16, configuration D. Below 224 px it pools to ``input_size / 32`` and the hidden layers shrink likewise."""
    model = torchvision.models.vgg16(num_classes=classes, init_weights=False)
    pool = min(_VGG_POOL, input_size // _VGG_STRIDE)
    if width == 1 and pool == _VGG_POOL:
        return model
    _narrow(model, width)
    features = _scaled(512, width) * pool * pool
    hidden = _scaled(4096, width)
    if pool < _VGG_POOL:
        hidden = max(64, round(hidden * pool / _VGG_POOL / 64) * 64)
    model.avgpool = nn.AdaptiveAvgPool2d((pool, pool))
    for index, (inputs, outputs) in {0: (features, hidden), 3: (hidden, hidden), 6: (hidden, classes)}.items():
        model.classifier[index] = nn.Linear(inputs, outputs)
    return model


def resnet50(classes: int, width: float, input_size: int) -> nn.Module:
    """ResNet-50 (version 1.5, as torchvision has it: the stride is in the 3x3 convolution)."""
    model = torchvision.models.resnet50(num_classes=classes)
    if width != 1:
        _narrow(model, width)
        model.fc = nn.Linear(_scaled(model.fc.in_features, width), classes)
    return model


def _own(path: str) -> dict[str, Model]:
    """The models of a Python file; what makes them lies in it or beside it."""
    found = {}
    for row in from_file(path).MODELS:
        beside = isinstance(row.maker, str) and row.maker.rpartition(":")[0].endswith(".py")
        found[row.id] = replace(row, maker=str(Path(path).parent / row.maker)) if beside else row
    return found


def architecture_of(name: str) -> Model:
    """The row of that id, or, of ``file.py:id``, the one in that file's ``MODELS``.

    Raises:
        InputError: there is none, or nothing makes it yet.
    """
    path, _, identifier = name.rpartition(":")
    known = _own(path) if path else MODELS
    made = [key for key, row in known.items() if row.maker]
    if identifier not in made:
        raise InputError(
            f"unknown architecture {name!r}{suggestion(name, made)}; choose one of {', '.join(sorted(made))}"
        )
    return known[identifier]


def build(
    architecture: str,
    classes: int,
    width: float = 1.0,
    input_size: int = 224,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Build an untrained network.

    Args:
        architecture: an id of ``relmap.catalogue.models``, or ``file.py:id``.
        classes: number of outputs.
        width: factor on the channel counts; at 1.0 and 224 px the network is torchvision's, shape by shape.
        input_size: side of the square input in pixels, at least 32.
        seed: of the initial weights.
        device: where the parameters lie; on ``meta`` they have shapes and no values.

    Returns:
        The module, in training mode, without in-place activations.

    Raises:
        InputError: an unknown architecture or an impossible size.
    """
    entry = architecture_of(architecture)
    if classes < 1:
        raise InputError(f"{architecture}: classes is {classes}; a classifier needs at least one")
    if width <= 0:
        raise InputError(f"{architecture}: width is {width}; give a positive factor, such as 0.125 or 1.0")
    if input_size < SMALLEST_INPUT:
        raise InputError(
            f"{architecture}: input_size is {input_size}; its poolings need at least {SMALLEST_INPUT} pixels"
        )
    with torch.device("meta"):
        model = entry.construct(classes, width, input_size)
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    if torch.device(device).type != "meta":
        model = model.to_empty(device="cpu")
        initialise(model, seed)
        model = model.to(device)
    return model


def initialise(model: nn.Module, seed: int) -> None:
    """Set all weights afresh, in place.

    Convolutions as in torchvision (He et al. 2015, fan-out); linear layers by fan-in instead of torchvision's fixed
    deviation of 0.01, with which a narrow VGG without batch norm starts with no signal at its output. The last batch
    norm of a bottleneck starts at zero (Goyal et al. 2017): each block is the identity at first, and short trainings
    get much further.
    """
    generator = torch.Generator().manual_seed(seed)
    bottlenecks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            initialise_linear(module, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, torchvision.models.resnet.Bottleneck):
            bottlenecks.append(module)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for block in bottlenecks:
        nn.init.zeros_(block.bn3.weight)


def initialise_linear(layer: nn.Linear, generator: torch.Generator) -> None:
    """Set one linear layer afresh: He's fan-in normal weights, no bias."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)


def new_last_layer(model: nn.Module, architecture: str, classes: int, seed: int) -> None:
    """Replace the last linear layer by a fresh one with ``classes`` outputs, in place."""
    name = architecture_of(architecture).last
    old = model.get_submodule(name)
    fresh = nn.Linear(old.in_features, classes, device=old.weight.device, dtype=old.weight.dtype)
    # Drawn on the CPU, so that the seed means the same weights on every device.
    drawn = nn.Linear(old.in_features, classes)
    initialise_linear(drawn, torch.Generator().manual_seed(seed))
    fresh.load_state_dict(drawn.state_dict())
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, fresh)
