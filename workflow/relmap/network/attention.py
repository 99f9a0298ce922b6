r"""Attention as primitive operations.

.. math:: \mathrm{softmax}\Big(\frac{Q K^\top}{\sqrt{d}} + M\Big) V, \quad Q = W_q x + b_q, \; \ldots

One module becomes ``query, key, value`` (linear), their rearrangements to heads (N, h, T, d), ``scores`` (matmul, the
scale included), ``mask`` and ``masked`` where there is one, ``softmax``, ``context`` (matmul), ``merge`` and the output
projection, all named below the module's path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.network.affine import Dense
from relmap.network.sizes import Output, Pieces
from relmap.network.vocabulary import Primitive, layer_norm_of, primitive_of, softmax


class Emitter(Protocol):
    """What adds operations to a graph."""

    def emit(
        self,
        name: str,
        primitive: Primitive,
        inputs: tuple[Output, ...],
        sizes: tuple[str, ...] = (),
        constants: tuple[Output, ...] = (),
    ) -> Output: ...

    def tensor(self, value: Any, name: str) -> Output: ...

    def scalar(self, value: float | Tensor, like: Output) -> Output: ...

    def aligned(self, value: Tensor, like: Output) -> Output: ...


FUSED_PARTS = frozenset({"qkv", "q_norm", "k_norm", "attn_drop", "norm", "proj", "proj_drop"})


def is_fused_attention(module: nn.Module) -> bool:
    """Whether this is self-attention with one linear layer for query, key and value, as timm's ``Attention``."""
    parts = {name: child for name, child in module.named_children() if child is not None}
    return (
        {"qkv", "proj"} <= parts.keys() <= FUSED_PARTS
        and type(module).__name__ == "Attention"
        and all(type(parts[name]) is nn.Linear for name in ("qkv", "proj"))
        and all(hasattr(module, name) for name in ("num_heads", "head_dim", "scale"))
        and parts["qkv"].out_features == 3 * module.num_heads * module.head_dim
        and not any(True for _ in module.parameters(recurse=False))
    )


def fused_attention(emitter: Emitter, path: str, module: nn.Module, x: Output, mask: Any = None) -> Output:
    weights = module.qkv.weight.detach().chunk(3)
    biases = (None,) * 3 if module.qkv.bias is None else module.qkv.bias.detach().chunk(3)
    heads = []
    for name, weight, bias, norm in zip(
        ("query", "key", "value"), weights, biases, ("q_norm", "k_norm", ""), strict=True
    ):
        projected = emitter.emit(f"{path}.{name}", Primitive.of(Dense(weight, bias), "linear"), (x,))
        projected = emitter.emit(f"{path}.{name}_heads", _to_heads(module.num_heads, True), (projected,))
        heads.append(_optional(emitter, f"{path}.{norm}", getattr(module, norm, None), projected))
    context = attend(emitter, f"{path}.", *heads, scale=module.scale, mask=mask, allowed=True)
    merged = emitter.emit(f"{path}.merge", _merge(True), (context,))
    merged = _optional(emitter, f"{path}.norm", getattr(module, "norm", None), merged)
    return emitter.emit(f"{path}.proj", Primitive.of(Dense.of(module.proj), "linear"), (merged,))


def _optional(emitter: Emitter, name: str, module: nn.Module | None, x: Output) -> Output:
    if module is None or isinstance(module, nn.Identity):
        return x
    # timm's LayerNorm has a forward of its own, which computes the same.
    primitive = layer_norm_of(module) if type(module).__name__ == "LayerNorm" else primitive_of(module)
    if primitive is None:
        raise InputError(f"layer {name!r}: no rule is known for {type(module).__name__} inside an attention")
    return emitter.emit(name, primitive, (x,))


def multihead_attention(
    emitter: Emitter,
    path: str,
    module: nn.MultiheadAttention,
    query: Output,
    key: Output,
    value: Output,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Pieces:
    """``torch.nn.MultiheadAttention`` on (N, T, C), or (T, N, C) where the module is not ``batch_first``."""
    if module.bias_k is not None or module.bias_v is not None or module.add_zero_attn:
        raise InputError(f"layer {path!r}: attention with bias_k, bias_v or add_zero_attn is not supported")
    weights = (
        module.in_proj_weight.detach().chunk(3)
        if module.in_proj_weight is not None
        else [w.detach() for w in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)]
    )
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.detach().chunk(3)
    heads = []
    for name, source, weight, bias in zip(("query", "key", "value"), (query, key, value), weights, biases, strict=True):
        projected = emitter.emit(f"{path}.{name}", Primitive.of(Dense(weight, bias), "linear"), (source,))
        heads.append(
            emitter.emit(f"{path}.{name}_heads", _to_heads(module.num_heads, module.batch_first), (projected,))
        )
    masks = [
        _additive(emitter, f"{path}.{label}", mask, False, shaped)
        for label, mask, shaped in (
            ("mask", attn_mask, lambda mask: _per_head(mask, module.num_heads)),
            ("padding", key_padding_mask, lambda mask: mask[:, None, None, :]),
        )
        if mask is not None
    ]
    probabilities, context = _attend(emitter, f"{path}.", *heads, scale=module.head_dim**-0.5, masks=masks)
    merged = emitter.emit(f"{path}.merge", _merge(module.batch_first), (context,))
    output = emitter.emit(f"{path}.out_proj", Primitive.of(Dense.of(module.out_proj), "linear"), (merged,))

    def take(index: int) -> Output | None:
        if index == 0:
            return output
        if not need_weights:
            return None
        if not average_attn_weights:
            return probabilities
        return emitter.emit(f"{path}.weights", Primitive("average_pool", lambda x: x.mean(1)), (probabilities,))

    return Pieces(take)


def encoder_layer(
    layer: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    """What ``torch.nn.TransformerEncoderLayer`` computes, without its choice of a fused kernel.

    ``is_causal`` is a hint about ``src_mask``, which torch wants beside it.
    """

    def attention(x: Any) -> Any:
        attended = layer.self_attn(x, x, x, src_key_padding_mask, need_weights=False, attn_mask=src_mask)
        return layer.dropout1(attended[0])

    def feed_forward(x: Any) -> Any:
        return layer.dropout2(layer.linear2(layer.dropout(layer.activation(layer.linear1(x)))))

    if layer.norm_first:
        x = src + attention(layer.norm1(src))
        return x + feed_forward(layer.norm2(x))
    x = layer.norm1(src + attention(src))
    return layer.norm2(x + feed_forward(x))


def encoder(
    module: nn.TransformerEncoder,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    for layer in module.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
    return src if module.norm is None else module.norm(src)


STAND_INS: dict[type[nn.Module], Callable] = {
    nn.TransformerEncoderLayer: encoder_layer,
    nn.TransformerEncoder: encoder,
}
"""Modules whose own forward cannot be traced -> a function (module, inputs) that computes the same."""


def attend(
    emitter: Emitter,
    prefix: str,
    query: Output,
    key: Output,
    value: Output,
    scale: float | None = None,
    mask: Any = None,
    allowed: bool = True,
    is_causal: bool = False,
) -> Output:
    """Attention of heads; where ``mask`` is boolean, ``allowed`` says what true means."""
    masks = [] if mask is None else [_additive(emitter, f"{prefix}mask", mask, allowed)]
    return _attend(emitter, prefix, query, key, value, scale=scale, masks=masks, is_causal=is_causal)[1]


def _attend(
    emitter: Emitter,
    prefix: str,
    query: Output,
    key: Output,
    value: Output,
    scale: float | None,
    masks: list[Output],
    is_causal: bool = False,
) -> tuple[Output, Output]:
    """Probabilities and context."""
    product = Primitive("matmul", _scores(scale), settings={"scale": scale, "transposed": True})
    scores = emitter.emit(f"{prefix}scores", product, (query, key))
    if is_causal:
        masks = [*masks, emitter.emit(f"{prefix}causal", Primitive("mask", _causal), (scores,))]
    for mask in masks:
        scores = emitter.emit(f"{prefix}masked", Primitive("add", torch.add), (scores, mask))
    probabilities = emitter.emit(f"{prefix}softmax", softmax(-1), (scores,))
    return probabilities, emitter.emit(f"{prefix}context", Primitive("matmul", torch.matmul), (probabilities, value))


def _scores(scale: float | None) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda query, key: (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)


_WITHIN = {"moves": ("within", (), {})}  # each image's values stay in it


def _to_heads(count: int, batch_first: bool) -> Primitive:
    if batch_first:
        return Primitive("reshape", lambda x: x.unflatten(-1, (count, -1)).transpose(-3, -2), settings=_WITHIN)
    return Primitive("reshape", lambda x: x.unflatten(-1, (count, -1)).permute(1, 2, 0, 3))


def _merge(batch_first: bool) -> Primitive:
    if batch_first:
        return Primitive("reshape", lambda x: x.transpose(-3, -2).flatten(-2), settings=_WITHIN)
    return Primitive("reshape", lambda x: x.permute(2, 0, 1, 3).flatten(-2))


def _per_head(mask: Tensor, heads: int) -> Tensor:
    return mask if mask.dim() == 2 else mask.unflatten(0, (-1, heads))


def _lowest(dtype: torch.dtype) -> float:
    # A finite number: its softmax is as exactly 0 as that of minus infinity, and rules may divide by it.
    return torch.finfo(dtype).min


def _causal(scores: Tensor) -> Tensor:
    return scores.new_full(scores.shape[-2:], _lowest(scores.dtype)).triu(1)


def _additive(
    emitter: Emitter, name: str, mask: Any, allowed: bool, shaped: Callable[[Tensor], Tensor] = lambda mask: mask
) -> Output:
    def run(mask: Tensor) -> Tensor:
        mask = shaped(mask)
        if mask.dtype != torch.bool:
            return mask.clamp(min=_lowest(mask.dtype))
        hidden = ~mask if allowed else mask
        dtype = torch.get_default_dtype()
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(hidden, _lowest(dtype))

    return emitter.emit(name, Primitive("mask", run), (emitter.tensor(mask, name),))
