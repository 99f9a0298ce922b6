r"""Relevance of the words of sentences, and how much of it lies on those that carry the sentiment.

A word's relevance is the sum over its tokens. Special tokens are no words: what a method puts on ``[CLS]`` and
``[SEP]`` is left out, and its share of the absolute relevance is told beside the scores. With R of the words, P those
that speak for the explained class and A those that speak against it,

.. math::
    \text{mass} = \frac{\sum_{i \in P} R_i^+}{\sum_i R_i^+}, \qquad
    \text{against} = \frac{\sum_{i \in A} R_i^+}{\sum_i R_i^+}, \qquad
    \text{rank} = \text{share of the } |P| \text{ most relevant words that are in P}

(Arras et al. 2022). Attention rollout (Abnar and Zuidema 2020) is the same for all classes: the row of ``[CLS]`` of

.. math:: \hat A_L \cdots \hat A_1, \qquad \hat A = \mathrm{rows}\, (\bar A + I) / 2

with :math:`\bar A` the mean over the heads and rows brought to sum 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import relmap
import torch
from relmap.errors import InputError
from relmap.evidence.statistics import bootstrap_mean
from relmap.metrics.relevance_mass import mass_accuracy, rank_accuracy
from relmap.models.wordpiece import Encoded
from torch import Tensor, nn

from papers.abslrp.grammar import NEGATIONS, Sentence

NEGATED = frozenset(word for words in NEGATIONS.values() for word in words)
ROLLOUT = "attention_rollout"
METHODS = (
    "abslrp",
    "abslrp_difference",
    "lrp_epsilon",
    "saliency",
    "input_x_gradient",
    "constant",
    "random",
    "centre_gaussian",
)
"""Of the catalogue; the last three are controls, which know nothing of the network."""

CONTROLS = METHODS[-3:]


def token_maps(
    model: nn.Module, ids: Tensor, targets: Tensor, *, batch_size: int = 16, methods: Sequence[str] = METHODS
) -> dict[str, Tensor]:
    """Relevance of tokens by the catalogue's methods and by rollout: ids (N, T) and targets (N,) to (N, T) each."""
    propagator = relmap.Propagator(model)
    maps = relmap.compare(propagator, ids, targets, methods, batch_size=batch_size)
    rollouts = [rollout(propagator, batch) for batch in ids.split(batch_size)]
    return {**{name: maps[name] for name in methods if name not in CONTROLS}, ROLLOUT: torch.cat(rollouts)} | {
        name: maps[name] for name in methods if name in CONTROLS
    }


def rollout(propagator: relmap.Propagator, ids: Tensor) -> Tensor:
    """Attention rollout of a classifier that reads its logits off the first token: ids (N, T) to (N, T)."""
    names = [operation.name for operation in propagator.graph if operation.kind == "softmax"]
    outputs = propagator.forward(ids.to(propagator.device), keep=names).outputs
    identity = torch.eye(ids.shape[1], dtype=outputs[names[0]].dtype, device=propagator.device)
    row = identity[None, :1].expand(len(ids), -1, -1)
    for name in reversed(names):
        factor = outputs[name].mean(1) + identity
        row = row @ (factor / factor.sum(-1, keepdim=True))
    return row[:, 0].to(ids.device)


def word_maps(maps: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of words, and what lies on no word.

    Args:
        maps: (N, T) of tokens.
        words: (N, T) the number of each token's word, -1 for special tokens and padding.

    Returns:
        (N, W), W the most words of a sentence, 0 beyond a sentence's last; and (N,) the share of the absolute relevance
        that special tokens and padding have, NaN where there is none at all.
    """
    count = int(words.max()) + 1
    inside = words >= 0
    found = maps.new_zeros(len(maps), count).scatter_add(1, words.clamp(min=0), maps * inside)
    size = maps.abs()
    return found, (size * ~inside).sum(1) / size.sum(1)


def score_line(
    method: str, maps: Tensor, present: Tensor, for_class: Tensor, against: Tensor, special: Tensor, seed: int
) -> dict[str, Any]:
    """A line of the table: means over sentences with 95 % intervals by bootstrap.

    Args:
        method: id, said in the line.
        maps: (N, W) relevance of words.
        present: (N, W) bool, which are words of the sentence.
        for_class, against: (N, W) bool, words that speak for the explained class, and against it.
        special: (N,) as of ``word_maps``.
        seed: of the intervals.
    """
    maps, area = maps.double(), (for_class.sum(1) / present.sum(1)).mean().item()
    # What is no word of the sentence comes after all words, also where those have negative relevance.
    below = maps.min() - 1
    ranked = maps.masked_fill(~present, below)
    told = against.any(1)
    values = {
        "mass": mass_accuracy(maps[:, None], for_class[:, None]),
        "rank": rank_accuracy(ranked[:, None], for_class[:, None], "at_once"),
        "against": mass_accuracy(maps[told][:, None], against[told][:, None]) if told.any() else torch.empty(0),
    }
    line: dict[str, Any] = {"method": method}
    for name, value in values.items():
        interval = bootstrap_mean(value.cpu().numpy(), seed=seed)
        line |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    shares = special[~special.isnan()]
    return {
        **line,
        "special": shares.double().mean().item() if len(shares) else np.nan,
        "area": area,
        "n_sentences": len(maps),
        "n_with_against": int(told.sum()),
    }


def roles_of(sentences: Sequence[Sentence]) -> Tensor:
    """What each word speaks for, (N, W), 0 beyond a sentence's last word."""
    width = max(len(sentence.roles) for sentence in sentences)
    return torch.tensor([[*sentence.roles, *[0] * (width - len(sentence.roles))] for sentence in sentences])


def table_of(
    maps: Mapping[str, Tensor], words: Tensor, roles: Tensor, signs: Tensor, seed: int
) -> list[dict[str, Any]]:
    """Lines of all methods.

    Args:
        maps: (N, T) of tokens by method.
        words: (N, T) as of ``word_maps``.
        roles: (N, W) as of ``roles_of``; W may be more than the words of these sentences.
        signs: (N,) 1 where the explained class is positive sentiment, else -1.
        seed: of the intervals.
    """
    roles, signs = roles[:, : int(words.max()) + 1], signs[:, None]
    present = torch.arange(roles.shape[1]) <= words.amax(1, keepdim=True)
    lines = []
    for method, found in maps.items():
        of_words, special = word_maps(found, words)
        lines.append(score_line(method, of_words, present, roles == signs, roles == -signs, special, seed))
    return lines


def position_of(names: Sequence[str], where: str) -> int:
    """Which of a classifier's two classes is positive sentiment, 0 or 1.

    Raises:
        InputError: the classes are others.
    """
    kinds = [name.lower()[:3] for name in names]
    if sorted(kinds) != ["neg", "pos"]:
        raise InputError(
            f"{where}: the classes are {', '.join(names)}, not negative and positive; name a sentiment classifier"
        )
    return kinds.index("pos")


def telling(sentences: Sequence[Sentence], right: Tensor, count: int) -> list[int]:
    """Places of sentences to show: rightly classified, in turn of each label, those of two sides and negated first."""
    ranked: dict[int, list[tuple[bool, bool, int]]] = {0: [], 1: []}
    for place in right.nonzero()[:, 0].tolist():
        sentence = sentences[place]
        sides = {-1, 1} <= set(sentence.roles)
        negated = any(word in NEGATED for word in sentence.words)
        ranked[sentence.label].append((not sides, not negated, place))
    turns = zip_longest(sorted(ranked[1]), sorted(ranked[0]))
    return [entry[-1] for pair in turns for entry in pair if entry is not None][:count]


def sheet_arrays(
    texts: Sequence[Sequence[str]], encoded: Encoded, maps: Mapping[str, Tensor], positive: Tensor
) -> dict[str, np.ndarray]:
    """What the figure of sentences is drawn from.

    Args:
        texts: the words of each.
        encoded: their tokens.
        maps: (N, T) of tokens by method, for positive sentiment.
        positive: (N,) probability of positive sentiment.

    Returns:
        words (N, W), empty beyond a sentence's last; positive (N,); and maps/<method> (N, W).
    """
    width = max(map(len, texts))
    arrays = {"words": np.array([[*text, *[""] * (width - len(text))] for text in texts]), "positive": positive.numpy()}
    return arrays | {f"maps/{name}": word_maps(found, encoded.words)[0].numpy() for name, found in maps.items()}
