"""Narrower networks of the same modules and names: outputs are scaled, inputs follow from what reaches each layer."""

from __future__ import annotations

import torch
from torch import nn


def scaled(count: int, width: float) -> int:
    """A number of channels times ``width``, at least 1."""
    return max(1, round(count * width))


def narrow(model: nn.Module, width: float, input_size: int, head: str) -> None:
    """Multiply the outputs of all convolutions outside ``head`` by ``width``, in place; parameters are left unset.

    Inputs, of ``head`` too, are those that a picture of ``input_size`` brings: concatenated branches add up. Call it
    where tensors are made on ``meta``, and it costs nothing.
    """
    for path, layer in list(model.named_modules()):
        inside = path == head or path.startswith(f"{head}.")
        replacement = _lazy(layer, 1.0 if inside else width)
        if replacement is not None:
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, replacement)
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, input_size, input_size))
    model.train(training)


def _lazy(layer: nn.Module, width: float) -> nn.Module | None:
    """The layer that takes its inputs from what first reaches it, and is of its own class after that."""
    if isinstance(layer, nn.Conv2d):
        return nn.LazyConv2d(
            scaled(layer.out_channels, width),
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
        )
    if isinstance(layer, nn.BatchNorm2d):
        return nn.LazyBatchNorm2d(layer.eps, layer.momentum)
    return nn.LazyLinear(layer.out_features) if isinstance(layer, nn.Linear) else None
