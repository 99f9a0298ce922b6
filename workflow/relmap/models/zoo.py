"""Torchvision's architectures, at their own size or narrowed for small pictures.

A narrowed network keeps torchvision's module tree and names; only channel counts change, and of vision transformers the
number of blocks. A configuration that names layers therefore reads the same for the demo and for the full run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from relmap.catalogue.imported import from_file
from relmap.catalogue.models import MODELS, Model
from relmap.errors import InputError, suggestion
from relmap.models import vit
from relmap.torchvision_shim import torchvision


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
        input_size: side of the square input in pixels, at least the row's ``smallest``.
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
    if input_size < entry.smallest:
        raise InputError(
            f"{architecture}: input_size is {input_size}; its poolings need at least {entry.smallest} pixels"
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
    norm of a residual block starts at zero (Goyal et al. 2017): each block is the identity at first, and short
    trainings get much further. Vision transformers start as ``vit`` says.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, vit.VisionTransformer):
        vit.initialise(model, generator)
        return
    last_norms = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            initialise_linear(module, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, torchvision.models.resnet.Bottleneck):
            last_norms.append(module.bn3)
        elif isinstance(module, torchvision.models.resnet.BasicBlock):
            last_norms.append(module.bn2)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for norm in last_norms:
        nn.init.zeros_(norm.weight)


def initialise_linear(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    """Set one layer afresh: He's fan-in normal weights, no bias."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)


def new_last_layer(model: nn.Module, architecture: str, classes: int, seed: int) -> None:
    """Replace the last layer, linear or a 1 x 1 convolution, by a fresh one with ``classes`` outputs, in place."""
    name = architecture_of(architecture).last
    old = model.get_submodule(name)
    # Drawn on the CPU, so that the seed means the same weights on every device.
    fresh: nn.Linear | nn.Conv2d
    if isinstance(old, nn.Conv2d):
        fresh = nn.Conv2d(old.in_channels, classes, 1)
    else:
        fresh = nn.Linear(old.in_features, classes)
    initialise_linear(fresh, torch.Generator().manual_seed(seed))
    fresh = fresh.to(old.weight)
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, fresh)
