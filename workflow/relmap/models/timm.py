"""Vision transformers' weights under timm's names, or Flax's, as torchvision's.

timm's ``vit_base_patch16_224.augreg_in21k_ft_in1k`` and its like (Steiner et al. 2022) are Google's, which lie in
``.npz`` files under Flax's names. The arithmetic is torchvision's: layer norms with epsilon 1e-6, exact GELU, and
query, key and value, in this order, in one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_TO_TORCHVISION = (
    (r"cls_token", "class_token"),
    (r"pos_embed", "encoder.pos_embedding"),
    (r"patch_embed\.proj\.", "conv_proj."),
    (r"blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"(.*\.)norm([12])\.", r"\1ln_\2."),
    (r"(.*\.)attn\.qkv\.", r"\1self_attention.in_proj_"),
    (r"(.*\.)attn\.proj\.", r"\1self_attention.out_proj."),
    (r"(.*\.)mlp\.fc1\.", r"\1mlp.0."),
    (r"(.*\.)mlp\.fc2\.", r"\1mlp.3."),
    (r"norm\.", "encoder.ln."),
    (r"head\.", "heads.head."),
)
_ATTENTION = "MultiHeadDotProductAttention_1"
_FLAX_BLOCK = {
    "LayerNorm_0": "norm1",
    "LayerNorm_2": "norm2",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
}


def as_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with torchvision's names, if it is one of timm's vision transformers; any other as it is."""
    if not {"cls_token", "patch_embed.proj.weight"} <= state.keys():
        return dict(state)
    return {_renamed(name): value for name, value in state.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _TO_TORCHVISION:
        name = re.sub(rf"\A{pattern}", replacement, name)
    return name


def from_flax(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """A vision transformer's arrays under Flax's names, ``embedding/kernel`` and so on, as timm's state dict.

    Kernels are (in, out); those of attention have the heads as a dimension of their own. What is no part of the
    classifier, such as ``pre_logits``, is left out.

    Raises:
        KeyError: an array is absent.
    """
    width = arrays["embedding/bias"].shape[0]
    state = {
        "cls_token": arrays["cls"],
        "pos_embed": arrays["Transformer/posembed_input/pos_embedding"],
        "patch_embed.proj.weight": arrays["embedding/kernel"].transpose(3, 2, 0, 1),
        "patch_embed.proj.bias": arrays["embedding/bias"],
        "norm.weight": arrays["Transformer/encoder_norm/scale"],
        "norm.bias": arrays["Transformer/encoder_norm/bias"],
        "head.weight": arrays["head/kernel"].T,
        "head.bias": arrays["head/bias"],
    }
    for block in sorted({int(found[1]) for name in arrays if (found := re.search(r"encoderblock_(\d+)/", name))}):
        here, there = f"Transformer/encoderblock_{block}", f"blocks.{block}"
        for source, target in _FLAX_BLOCK.items():
            kernel = f"{here}/{source}/{'scale' if 'Norm' in source else 'kernel'}"
            state[f"{there}.{target}.weight"] = arrays[kernel].T
            state[f"{there}.{target}.bias"] = arrays[f"{here}/{source}/bias"]
        parts = [f"{here}/{_ATTENTION}/{name}" for name in ("query", "key", "value")]
        state[f"{there}.attn.qkv.weight"] = np.concatenate([arrays[f"{p}/kernel"].reshape(width, -1).T for p in parts])
        state[f"{there}.attn.qkv.bias"] = np.concatenate([arrays[f"{p}/bias"].ravel() for p in parts])
        state[f"{there}.attn.proj.weight"] = arrays[f"{here}/{_ATTENTION}/out/kernel"].reshape(-1, width).T
        state[f"{there}.attn.proj.bias"] = arrays[f"{here}/{_ATTENTION}/out/bias"]
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}
