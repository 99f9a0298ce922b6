r"""Vision transformers (Dosovitskiy et al. 2021): torchvision's class at the published sizes, or narrowed.

A narrowed network has half the published depth, heads of 32 units instead of 64, and patches for half as many places
along a side: at width 1/8 and 64 px, ViT-B/16 has 96 channels, 3 heads, 6 blocks and 8 x 8 patches of 8 px.

**Initial weights.** With few pictures attention does not find by itself where to look. It starts as in transformers
that were trained on many (Trockman and Kolter 2023): with a random matrix :math:`Z`, entries :math:`N(0, 1/d)`,

.. math::
    W_q^T W_k \approx 0.7\, Z + 0.7\, I \;\text{(of the rank of a head)}, \qquad
    W_o W_v = 0.4\, Z' - 0.4\, I

from singular value decompositions, so that a token looks at tokens like itself. Positions are sines and cosines of row
and column (Vaswani et al. 2017), so that neighbours are alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from relmap.models.narrow import scaled
from relmap.torchvision_shim import torchvision

VisionTransformer = torchvision.models.VisionTransformer

_DEPTH, _HEADS, _HEAD = 12, 12, 64
_QUERY_KEY, _VALUE_OUT = (0.7, 0.7), (0.4, -0.4)
_CLASS_DEVIATION = 0.02
_LONGEST_WAVE = 10_000


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


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Set all weights afresh, in place."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    patches, last = model.conv_proj, model.heads.head
    nn.init.trunc_normal_(patches.weight, std=patches.weight[0].numel() ** -0.5, generator=generator)
    nn.init.zeros_(patches.bias)
    nn.init.normal_(last.weight, std=_CLASS_DEVIATION, generator=generator)
    for block in model.encoder.layers:
        _initialise_attention(block.self_attention, generator)
    with torch.no_grad():
        nn.init.zeros_(model.class_token)
        side = model.image_size // model.patch_size
        positions = model.encoder.pos_embedding
        positions[0, 0], positions[0, 1:] = 0, waves(side, model.hidden_dim)


@torch.no_grad()
def _initialise_attention(attention: nn.MultiheadAttention, generator: torch.Generator) -> None:
    count, rank, width = attention.num_heads, attention.head_dim, attention.embed_dim
    query, key, value = attention.in_proj_weight.chunk(3)
    for head in range(count):
        left, right = _factors(width, *_QUERY_KEY, generator)
        rows = slice(head * rank, (head + 1) * rank)
        query[rows], key[rows] = left[:, :rank].T, right[:, :rank].T
    left, right = _factors(width, *_VALUE_OUT, generator)
    attention.out_proj.weight.copy_(left)
    value.copy_(right.T)
    nn.init.zeros_(attention.in_proj_bias)
    nn.init.zeros_(attention.out_proj.bias)


def _factors(size: int, noise: float, identity: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """L and R (size, size), the strongest columns first: ``L R^T`` is a random matrix plus a part of the identity."""
    random = torch.randn(size, size, generator=generator) / math.sqrt(size)
    left, strengths, right = torch.linalg.svd(noise * random + identity * torch.eye(size))
    return left * strengths.sqrt(), right.T * strengths.sqrt()


def waves(side: int, channels: int) -> Tensor:
    """Position embeddings (side * side, channels), row by row: sines and cosines of the row, then of the column."""
    quarter = -(-channels // 4)
    frequencies = _LONGEST_WAVE ** -(torch.arange(quarter) / quarter)
    phases = torch.arange(side)[:, None] * frequencies
    one = torch.cat([phases.sin(), phases.cos()], 1)
    rows, columns = one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)[:, :channels]
