"""Vision transformers (Dosovitskiy et al. 2021): torchvision's class at the published sizes, or narrowed.

A narrowed network has half the published depth, heads of 32 units instead of 64, and patches for half as many places
along a side: at width 1/8 and 64 px, ViT-B/16 has 96 channels, 3 heads, 6 blocks and 8 x 8 patches of 8 px.

Initial weights are torchvision's, drawn from one seed, but for the last layer's, which would be 0: 0.02 times normal.
(Sines and cosines for positions, and attention that starts near the identity, brought nothing at the demo's size.)
"""

from __future__ import annotations

import torch
from torch import nn

from relmap.models.narrow import scaled
from relmap.torchvision_shim import torchvision

VisionTransformer = torchvision.models.VisionTransformer

_DEPTH, _HEADS, _HEAD = 12, 12, 64
_DEVIATION = 0.02


def base_patch16(classes: int, width: float, input_size: int) -> nn.Module:
    """ViT-B/16 for 224 px: 14 x 14 patches."""
    return _base(classes, width, input_size, patch=16, published=224)


def base_patch32(classes: int, width: float, input_size: int) -> nn.Module:
    """ViT-B/32 for 224 px: 7 x 7 patches."""
    return _base(classes, width, input_size, patch=32, published=224)


def base_patch16_384(classes: int, width: float, input_size: int) -> nn.Module:
    """ViT-B/16 for 384 px: 24 x 24 patches."""
    return _base(classes, width, input_size, patch=16, published=384)


def _base(classes: int, width: float, input_size: int, *, patch: int, published: int) -> nn.Module:
    depth, heads, head = _DEPTH, _HEADS, _HEAD
    if width != 1:
        depth, head = depth // 2, head // 2
        heads = scaled(2 * heads, width)
        patch = _divisor(input_size, 2 * patch * input_size / published)
    return VisionTransformer(
        image_size=input_size,
        patch_size=patch,
        num_layers=depth,
        num_heads=heads,
        hidden_dim=heads * head,
        mlp_dim=4 * heads * head,
        num_classes=classes,
    )


def _divisor(number: int, near: float) -> int:
    """The divisor of ``number`` that is nearest, the smaller of two."""
    return min((each for each in range(1, number + 1) if number % each == 0), key=lambda each: abs(each - near))


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Set all weights afresh, in place."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.xavier_uniform_(module.in_proj_weight, generator=generator)
            nn.init.zeros_(module.in_proj_bias)
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    patches = model.conv_proj
    nn.init.trunc_normal_(patches.weight, std=patches.weight[0].numel() ** -0.5, generator=generator)
    nn.init.zeros_(patches.bias)
    nn.init.zeros_(model.class_token)
    for weight in (model.encoder.pos_embedding, model.heads.head.weight):
        nn.init.normal_(weight, std=_DEVIATION, generator=generator)
