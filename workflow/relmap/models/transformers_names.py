"""Classifiers of transformers as timm's networks of the same arithmetic: configuration, and names of weights.

``vit``       vision transformers without distillation token, such as ``google/vit-base-patch16-224``
``resnet``    residual networks whose first convolution has 64 channels, such as ``microsoft/resnet-50``
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.torchvision_shim import torchvision  # noqa: F401  timm imports torchvision, which needs this first

MADE = ("vit", "resnet")
_OF_VIT = (
    (r"^vit\.", ""),
    (r"^embeddings\.cls_token", "cls_token"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
_OF_RESNET = (
    (r"^resnet\.", ""),
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", lambda found: f"layer{int(found[1]) + 1}.{found[2]}."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"\.layer\.(\d+)\.convolution\.", lambda found: f".conv{int(found[1]) + 1}."),
    (r"\.layer\.(\d+)\.normalization\.", lambda found: f".bn{int(found[1]) + 1}."),
    (r"^classifier\.1\.", "fc."),
)
_ACTIVATIONS: Mapping[str, Any] = {"gelu": nn.GELU, "relu": nn.ReLU}


def as_timm(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Timm's network of a configuration of transformers, empty, and its state dict.

    Args:
        config: of a repository's ``config.json``; ``model_type`` is of ``MADE``.
        state: under transformers' names.

    Raises:
        InputError: the configuration is of a form that timm's network has not.
        KeyError: a size or tensor is absent.
    """
    made = {"vit": _vit, "resnet": _resnet}[config["model_type"]]
    return made(config, state)


def _renamed(name: str, rules: Any) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _vit(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    from timm.models.vision_transformer import VisionTransformer

    _expect(config, hidden_act=tuple(_ACTIVATIONS))
    found = {_renamed(name, _OF_VIT): value for name, value in state.items() if ".pooler." not in name}
    for block in range(config["num_hidden_layers"]):
        for kind in ("weight", "bias") if config.get("qkv_bias", True) else ("weight",):
            parts = [found.pop(f"blocks.{block}.attn.{part}.{kind}") for part in ("query", "key", "value")]
            found[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    model = VisionTransformer(
        img_size=config["image_size"],
        patch_size=config["patch_size"],
        in_chans=config.get("num_channels", 3),
        num_classes=len(found["head.weight"]),
        embed_dim=config["hidden_size"],
        depth=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        mlp_ratio=config["intermediate_size"] / config["hidden_size"],
        qkv_bias=config.get("qkv_bias", True),
        norm_layer=partial(nn.LayerNorm, eps=config["layer_norm_eps"]),
        act_layer=_ACTIVATIONS[config["hidden_act"]],
    )
    return model, found


def _resnet(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    blocks: dict[str, Any] = {"bottleneck": Bottleneck, "basic": BasicBlock}
    block = blocks[config["layer_type"]]
    widths = [64 * 2**stage * block.expansion for stage in range(4)]
    _expect(
        config,
        hidden_act=("relu",),
        hidden_sizes=(widths,),
        embedding_size=(64,),
        downsample_in_first_stage=(False,),
        downsample_in_bottleneck=(False, None),
    )
    found = {_renamed(name, _OF_RESNET): value for name, value in state.items()}
    return ResNet(block, config["depths"], num_classes=len(found["fc.weight"])), found


def _expect(config: Mapping[str, Any], **allowed: tuple[Any, ...]) -> None:
    for key, values in allowed.items():
        if config.get(key) not in values:
            raise InputError(
                f"config.json: {key} is {config.get(key)!r}; relmap builds {config['model_type']} with "
                f"{' or '.join(str(value) for value in values if value is not None)} alone"
            )
