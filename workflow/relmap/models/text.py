"""A BERT classifier (Devlin et al. 2019) that takes token ids only, with Hugging Face's names of parameters.

The state dict of a ``BertForSequenceClassification`` loads strictly. The padding mask is made of the ids, and all
tokens are of the first segment, so that the model is a function of one tensor, as an explanation needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.models.card import assign_weights

# Buffers that older files hold beside the weights.
_INDICES = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")


@dataclass(frozen=True)
class BertSettings:
    """Sizes of a BERT, the defaults those of BERT-base."""

    classes: int = 2
    vocabulary: int = 30522
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    segments: int = 2
    padding: int = 0
    epsilon: float = 1e-12
    dropout: float = 0.1


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """Attention of several heads, (N, T, D) thrice to (N, T, D), at the tokens that are ``visible``, (N, 1, 1, T)."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)
    return context.transpose(1, 2).flatten(2)


class BertClassifier(nn.Module):
    """Token ids (N, T), int64, to logits (N, classes)."""

    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        if settings.width % settings.heads:
            raise InputError(f"a BERT of width {settings.width} cannot have {settings.heads} heads of equal width")
        self.bert = _Bert(settings)
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(settings.width, settings.classes)

    def forward(self, ids: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.bert(ids)))


class _Bert(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        self.padding = settings.padding
        self.embeddings = _Embeddings(settings)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(settings) for _ in range(settings.layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(settings.width, settings.width)})

    def forward(self, ids: Tensor) -> Tensor:
        visible = (ids != self.padding)[:, None, None, :]
        x = self.embeddings(ids)
        for layer in self.encoder["layer"]:
            x = layer(x, visible)
        return torch.tanh(self.pooler["dense"](x[:, 0]))


class _Embeddings(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(settings.vocabulary, settings.width, padding_idx=settings.padding)
        self.position_embeddings = nn.Embedding(settings.positions, settings.width)
        self.token_type_embeddings = nn.Embedding(settings.segments, settings.width)
        self.LayerNorm = nn.LayerNorm(settings.width, eps=settings.epsilon)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        segment = self.token_type_embeddings.weight[None, :1]
        position = self.position_embeddings.weight[None, : ids.shape[1]]
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + segment + position))


class _Layer(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        self.attention = _Attention(settings)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(settings.width, settings.hidden)})
        self.output = _Output(settings.hidden, settings)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        x = self.attention(x, visible)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class _Attention(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        self.self = _SelfAttention(settings)
        self.output = _Output(settings.width, settings)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        return self.output(self.self(x, visible), x)


class _SelfAttention(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        self.heads, self.dropout = settings.heads, settings.dropout
        self.query, self.key, self.value = (nn.Linear(settings.width, settings.width) for _ in range(3))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return attend(self.query(x), self.key(x), self.value(x), self.heads, visible, dropout)


class _Output(nn.Module):
    def __init__(self, inputs: int, settings: BertSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, settings.width)
        self.LayerNorm = nn.LayerNorm(settings.width, eps=settings.epsilon)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


def bert_of_state(state: Mapping[str, Tensor], heads: int, padding: int = 0, epsilon: float = 1e-12) -> BertClassifier:
    """The classifier whose state dict this is, in evaluation mode; its sizes are read from the weights.

    Args:
        state: of Hugging Face's ``BertForSequenceClassification``; its tensors become the model's.
        heads: number of attention heads, which the weights do not tell.
        padding: the token id that is hidden from attention.
        epsilon: of the layer norms.

    Raises:
        InputError: the state dict is that of another model.
    """
    state = {name: value for name, value in state.items() if name not in _INDICES}
    try:
        vocabulary, width = state["bert.embeddings.word_embeddings.weight"].shape
        settings = BertSettings(
            classes=len(state["classifier.bias"]),
            vocabulary=vocabulary,
            width=width,
            layers=len([name for name in state if name.endswith("attention.self.query.weight")]),
            heads=heads,
            hidden=len(state["bert.encoder.layer.0.intermediate.dense.bias"]),
            positions=len(state["bert.embeddings.position_embeddings.weight"]),
            segments=len(state["bert.embeddings.token_type_embeddings.weight"]),
            padding=padding,
            epsilon=epsilon,
        )
    except KeyError as error:
        raise InputError(f"this is no state dict of a BERT classifier: it has no {error}") from None
    with torch.device("meta"):
        model = BertClassifier(settings)
    assign_weights(model, dict(state), "the state dict")
    return model.eval().requires_grad_(False)
