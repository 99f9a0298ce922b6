"""Batch norm for the time of a training: added after every layer but the last, folded into the weights at the end."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights


class _Normed(nn.Sequential):
    """A layer (0) and the batch norm of its outputs (1)."""


def add_batch_norm(model: nn.Module) -> bool:
    """Put a batch norm after every convolution and linear layer but the last, in place.

    Returns:
        Whether it was done; a network that has any batch norm, or one layer only, stays as it is.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return False
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for name, layer in layers[:-1]:
        if isinstance(layer, nn.Conv2d):
            norm: nn.Module = nn.BatchNorm2d(layer.out_channels, device=layer.weight.device)
        else:
            norm = nn.BatchNorm1d(layer.out_features, device=layer.weight.device)
        _replace(model, name, _Normed(layer, norm))
    return len(layers) > 1


def fold_batch_norm(model: nn.Module) -> None:
    """Undo ``add_batch_norm``, in place: the plain layers compute what the pairs computed in evaluation mode."""
    for name, pair in [(name, module) for name, module in model.named_modules() if isinstance(module, _Normed)]:
        layer, norm = pair
        fuse = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
        layer.weight, layer.bias = fuse(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        _replace(model, name, layer)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
