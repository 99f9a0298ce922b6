"""A DistilBERT classifier (Sanh et al. 2019) that takes token ids only, with Hugging Face's names of parameters.

A BERT without segments and pooler: the logits are read off the first token's state by a linear layer, ReLU and the
classifier. The three files that a model of Hugging Face's hub has are read as they lie there: ``model.safetensors``
loads strictly, ``config.json`` tells the sizes, ``vocab.txt`` is ``relmap.models.wordpiece``'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.job.files import read_json
from relmap.models.card import load_weights
from relmap.models.text import attend

# Hugging Face's keys of config.json, by ours.
_KEYS = {
    "vocabulary": "vocab_size",
    "width": "dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "hidden": "hidden_dim",
    "positions": "max_position_embeddings",
    "padding": "pad_token_id",
    "dropout": "dropout",
}


@dataclass(frozen=True)
class DistilBertSettings:
    """Sizes of a DistilBERT, the defaults those of DistilBERT-base, and the names of its classes."""

    class_names: tuple[str, ...] = ("NEGATIVE", "POSITIVE")
    vocabulary: int = 30522
    width: int = 768
    layers: int = 6
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    padding: int = 0
    dropout: float = 0.1

    def to_config(self) -> dict[str, Any]:
        """What Hugging Face's ``config.json`` says of such a model."""
        return {
            "architectures": ["DistilBertForSequenceClassification"],
            "model_type": "distilbert",
            "activation": "gelu",
            "id2label": {str(number): name for number, name in enumerate(self.class_names)},
            "label2id": {name: number for number, name in enumerate(self.class_names)},
            **{theirs: getattr(self, ours) for ours, theirs in _KEYS.items()},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str = "config.json") -> DistilBertSettings:
        """Read Hugging Face's ``config.json``.

        Raises:
            InputError: it is that of another model, or lacks a size.
        """
        if config.get("model_type") != "distilbert" or config.get("activation", "gelu") != "gelu":
            raise InputError(f"{where}: not the config of a DistilBERT with GELU; name the file beside its weights")
        names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        absent = [theirs for ours, theirs in _KEYS.items() if ours != "dropout" and theirs not in config]
        if absent or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise InputError(f"{where}: lacks {', '.join(absent) or 'a name for each class'}; download it again")
        sizes = {ours: config[theirs] for ours, theirs in _KEYS.items() if theirs in config}
        return cls(tuple(str(names[key]) for key in sorted(names, key=int)), **sizes)


class DistilBertClassifier(nn.Module):
    """Token ids (N, T), int64, to logits (N, classes)."""

    def __init__(self, settings: DistilBertSettings) -> None:
        super().__init__()
        if settings.width % settings.heads:
            raise InputError(f"a DistilBERT of width {settings.width} cannot have {settings.heads} equal heads")
        self.distilbert = _DistilBert(settings)
        self.pre_classifier = nn.Linear(settings.width, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(settings.width, len(settings.class_names))

    def forward(self, ids: Tensor) -> Tensor:
        first = self.distilbert(ids)[:, 0]
        return self.classifier(self.dropout(F.relu(self.pre_classifier(first))))


class _DistilBert(nn.Module):
    def __init__(self, settings: DistilBertSettings) -> None:
        super().__init__()
        self.padding = settings.padding
        self.embeddings = _Embeddings(settings)
        self.transformer = nn.ModuleDict({"layer": nn.ModuleList(_Layer(settings) for _ in range(settings.layers))})

    def forward(self, ids: Tensor) -> Tensor:
        visible = (ids != self.padding)[:, None, None, :]
        x = self.embeddings(ids)
        for layer in self.transformer["layer"]:
            x = layer(x, visible)
        return x


class _Embeddings(nn.Module):
    def __init__(self, settings: DistilBertSettings) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(settings.vocabulary, settings.width, padding_idx=settings.padding)
        self.position_embeddings = nn.Embedding(settings.positions, settings.width)
        self.LayerNorm = nn.LayerNorm(settings.width, eps=1e-12)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        position = self.position_embeddings.weight[None, : ids.shape[1]]
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + position))


class _Layer(nn.Module):
    def __init__(self, settings: DistilBertSettings) -> None:
        super().__init__()
        self.attention = _Attention(settings)
        self.sa_layer_norm = nn.LayerNorm(settings.width, eps=1e-12)
        self.ffn = _FeedForward(settings)
        self.output_layer_norm = nn.LayerNorm(settings.width, eps=1e-12)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        x = self.sa_layer_norm(self.attention(x, visible) + x)
        return self.output_layer_norm(self.ffn(x) + x)


class _Attention(nn.Module):
    def __init__(self, settings: DistilBertSettings) -> None:
        super().__init__()
        self.heads, self.dropout = settings.heads, settings.dropout
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = (nn.Linear(settings.width, settings.width) for _ in range(4))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return self.out_lin(attend(self.q_lin(x), self.k_lin(x), self.v_lin(x), self.heads, visible, dropout))


class _FeedForward(nn.Module):
    def __init__(self, settings: DistilBertSettings) -> None:
        super().__init__()
        self.lin1 = nn.Linear(settings.width, settings.hidden)
        self.lin2 = nn.Linear(settings.hidden, settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.lin2(F.gelu(self.lin1(x))))


def new_distilbert(settings: DistilBertSettings, seed: int = 0) -> DistilBertClassifier:
    """An untrained classifier: biases 0, weights from a normal distribution of deviation ``width ** -0.5``.

    BERT's own .02 is of that size for its width; a narrow network with it does not begin to learn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DistilBertClassifier(settings)
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=settings.width**-0.5)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])
    return model


def load_distilbert(
    weights: str | os.PathLike, config: str | os.PathLike, device: str | torch.device = "cpu"
) -> tuple[DistilBertClassifier, Sequence[str]]:
    """The classifier of a ``model.safetensors`` and the ``config.json`` beside it, and its classes' names.

    Returns:
        The network in evaluation mode on ``device``, gradients of parameters off; class names in order.

    Raises:
        InputError: a file is absent or broken, or the two are not of one model.
    """
    settings = DistilBertSettings.from_config(read_json(config), str(config))
    with torch.device("meta"):
        model = DistilBertClassifier(settings)
    load_weights(model, weights)
    return model.to(device).eval().requires_grad_(False), settings.class_names
