"""What a classifier is trained for and judged by: by the kind of its labels, one class or any number of an image.

Labels (N,) int64 are classes: cross-entropy, and the share classified rightly. Labels (N, C) are 1 where an image has
the class, else 0: binary cross-entropy, and mean average precision. Logits (N, C, ...) count by their scores.

A network may be trained for more than its output: one with a method ``weighted_heads(inputs)`` gives pairs of a weight
and logits there, its own output's first with weight 1, and the loss is the weighted sum of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.models.average_precision import mean_average_precision
from relmap.network.score_maps import pooled_scores


def several(labels: Tensor) -> bool:
    """Whether images may have several classes."""
    return labels.dim() == 2


def loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean loss of a batch; ``label_smoothing`` is the share of the target spread over all outcomes."""
    scores = pooled_scores(logits)
    if not several(labels):
        return F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    target = labels * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(scores, target.to(scores.dtype))


def heads(model: nn.Module, inputs: Tensor) -> list[tuple[float, Tensor]]:
    """What a network is trained for: pairs of a weight and logits, its output the first."""
    several_heads = getattr(model, "weighted_heads", None)
    return [(1.0, model(inputs))] if several_heads is None else list(several_heads(inputs))


def total_loss(weighted: Sequence[tuple[float, Tensor]], labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The sum over ``heads`` of each one's weight times its loss, in float32."""
    return sum(weight * loss(logits.float(), labels, label_smoothing) for weight, logits in weighted)


def evidence(logits: Tensor, labels: Tensor) -> Tensor:
    """What ``quality`` needs of a batch: whether each image is right (N,), or the scores (N, C)."""
    scores = pooled_scores(logits)
    return scores if several(labels) else scores.argmax(1) == labels


def quality(found: Sequence[Tensor], labels: Tensor) -> float:
    """Share of right images, or mean average precision, of the ``evidence`` of batches and all their labels."""
    whole = torch.cat(list(found))
    return mean_average_precision(whole, labels) if several(labels) else whole.sum().item() / len(whole)


def probabilities(scores: Tensor, multi_label: bool) -> Tensor:
    """Class probabilities (N, C) of scores (N, C): a softmax over the classes, or a sigmoid of each."""
    return scores.sigmoid() if multi_label else scores.softmax(1)
