r"""Global Attribution Evaluation (Vukadin et al. 2024, absLRP, Eq. 13 to 18): one score of a map from three parts.

Four images are drawn, one of them is positive, its predicted class is explained. Attributions A are the positive parts
of maps, divided by their maximum. The positive image is masked in T steps, most impact first (Mo) and least first (Le),
see :mod:`relmap.metrics.gae_states`; with outputs :math:`o_t` and the attributions :math:`A_t` of the masked inputs

.. math::
    sim_t &= 1 - \frac{\|A_0 - A_t\|_1}{\|A_0\|_1 + \|A_t\|_1}, \qquad
    d^A_t = sim^{Le}_t - sim^{Mo}_t, \qquad d^o_t = \frac{o^{Le}_t - o^{Mo}_t}{o_0} \\
    LC_R &= 1 - \frac{2\, \|d^o - d^A\|_1}{\|d^o\|_1 + \|d^A\|_1} \qquad \text{(robustness)} \\
    LC_F &= \frac{\sum A_0 \cdot \mathrm{sign}(I_c)}{\|A_0\|_1} \qquad \text{(faithfulness)} \\
    C_s &= \frac{\sum A_{mosaic} \cdot S}{\|A_{mosaic}\|_1} \qquad \text{(contrastiveness)} \\
    LC &= \Big(\frac{LC_R + LC_F}{2}\Big)^+, \qquad C = C_s^+, \qquad GAE = LC \cdot C

with the combined impact map :math:`I_c` and, on the mosaic of the four images, the score map S
(:mod:`relmap.metrics.mosaics`). Norms and sums are over elements, channels of pixels: a map without channels counts the
same in each. Where a norm is 0, so is the fraction: a map without positive part has the score 0, a constant map
:math:`LC_R = -1` and the score 0.

Where paper and authors' code differ, settings choose: ``masking``; ``positive``, drawn uniformly (paper) or by the
softmax that the network gives the four classes on the mosaic; ``score_classes`` of S, predicted (paper) or labels (C
can then exceed 1); ``relative``: :math:`d^o` as in Eq. 14 (``paper``), over :math:`|o_0|` (``magnitude``), or the
code's difference of :math:`|o_0 - o_t| / (|o_0| + |o_t|)`. Real networks give negative logits to classes that they
predict; there Eq. 14 as printed takes a fall of the logit for a rise. Of a positive :math:`o_0` the first two are one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from relmap.errors import InputError, RelevanceWarning
from relmap.explanation import as_propagator, explain
from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import by_chunks
from relmap.metrics.gae_states import LERF, MORF, States, states
from relmap.metrics.mosaics import assembled, draw_positives, score_maps
from relmap.network.score_maps import pooled_scores

if TYPE_CHECKING:
    from relmap.catalogue.methods import Method
    from relmap.propagation import Propagator

RELATIVE = ("paper", "magnitude", "code")
# Elements of inputs that are made at once; bounds the memory whatever the number of mosaics.
_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class Trials:
    """What M mosaics ask of a network, whatever the method.

    Attributes:
        images: the positive ones, (M, C, H, W).
        targets: their predicted classes, (M,).
        positive: their quadrants, (M,).
        classes: of the images in the quadrants, (M, 4), as the score map takes them.
        states: of the positive images as they are masked.
        mosaics: (M, C, H, W).
        score_maps: (M, H, W).
    """

    images: Tensor
    targets: Tensor
    positive: Tensor
    classes: Tensor
    states: States
    mosaics: Tensor
    score_maps: Tensor


@dataclass(frozen=True)
class Scores:
    """A method's scores of M mosaics, all float64 on the CPU.

    Attributes:
        robustness, faithfulness, contrastiveness_signed: :math:`LC_R`, :math:`LC_F`, :math:`C_s`, (M,).
        similarities: :math:`sim_t`, (2, M, T): most impact masked first, least first.
        outputs: (2, M, T + 1): :math:`o_t` from t = 0 on.
        changes: :math:`d^o`, (M, T).
    """

    robustness: Tensor
    faithfulness: Tensor
    contrastiveness_signed: Tensor
    similarities: Tensor
    outputs: Tensor
    changes: Tensor

    @property
    def lc(self) -> Tensor:
        return ((self.robustness + self.faithfulness) / 2).clamp(min=0)

    @property
    def c(self) -> Tensor:
        return self.contrastiveness_signed.clamp(min=0)

    @property
    def total(self) -> Tensor:
        return self.lc * self.c


def prepare(
    model: nn.Module,
    images: Tensor,
    positive: Tensor | np.ndarray,
    *,
    labels: Tensor | None = None,
    steps: int = 10,
    masking: str = "reselect",
    score_classes: str = "predicted",
    batch_size: int = 64,
) -> Trials:
    """What M mosaics ask of a network. Networks are run in float64.

    Args:
        model: a classifier in evaluation mode.
        images: (M, 4, C, H, W), normalised, by quadrant.
        positive: the quadrants of the positive images, M of 0 to 3; or numbers in [0, 1), as ``mosaics.deal`` gives
            them, that draw by the softmax on the mosaic.
        labels: (M, 4), for ``score_classes`` labels.
        steps, masking: as of ``gae_states.states``.
        score_classes: whose classes make the score map: ``predicted`` or ``labels``.
        batch_size: images of one forward pass. It does not change the result.

    Raises:
        InputError: another ``score_classes``, no labels for them, or a model that gives NaN.
    """
    if score_classes not in ("predicted", "labels"):
        raise InputError(f"config: `evaluation.gae.score_classes` is {score_classes!r}; choose predicted or labels")
    if images.dim() != 5:
        raise InputError(f"gae: mosaics are made of pictures (M, 4, C, H, W), not of {tuple(images.shape)}")
    exact, device = copy.deepcopy(model).double().eval(), images.device
    logits = _logits(exact, images.flatten(0, 1), batch_size).unflatten(0, images.shape[:2])
    predicted, mosaics = logits.argmax(2), assembled(images)
    positive = torch.as_tensor(positive)
    if positive.is_floating_point():
        on_mosaics = _logits(exact, mosaics, batch_size).softmax(1)
        positive = draw_positives(positive.numpy(), on_mosaics.gather(1, predicted))
    positive = positive.to(device)
    classes = predicted
    if score_classes == "labels":
        if labels is None:
            raise InputError("gae: `evaluation.gae.score_classes` is labels, and none are given")
        classes = labels.to(device)
    units = torch.arange(len(images), device=device)
    own, targets = images[units, positive], predicted[units, positive]
    return Trials(
        own,
        targets,
        positive,
        classes,
        states(exact, own, targets, steps, masking, batch_size),
        mosaics,
        score_maps(logits[units, positive], classes, positive, tuple(images.shape[-2:])),
    )


def evaluate(
    model: nn.Module | Propagator,
    trials: Trials,
    method: str | Method,
    relative: str = "paper",
    batch_size: int = 16,
    **parameters: Any,
) -> Scores:
    """Scores of a method: maps of the positive images, of all their masked inputs and of the mosaics, in batches.

    Args:
        model: a classifier, or its propagator; maps are made in its precision.
        trials: of this network.
        method, parameters: as of ``relmap.explain``.
        relative: which :math:`d^o`: ``paper``, ``magnitude`` or ``code``.
        batch_size: images at a time. It does not change the result.

    Raises:
        InputError: a map is not finite; another ``relative``.
    """
    propagator = as_propagator(model, trials.images)

    def attributed(inputs: Tensor, targets: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # That maps of black inputs are 0 everywhere is what is measured.
            warnings.simplefilter("ignore", RelevanceWarning)
            maps = explain(propagator, inputs, targets, method, batch_size=batch_size, by_channel=True, **parameters)
        return attribution(maps)

    first = attributed(trials.images, trials.targets)
    fresh = trials.states.fresh
    order, image, step = fresh.nonzero().T
    found = torch.ones((*fresh.shape[:2], fresh.shape[2] + 1), dtype=torch.float64, device=fresh.device)
    for some in _chunks(len(step), trials.images[0].numel(), batch_size, fresh.device):
        at = image[some]
        masked = trials.states.masked(trials.images, order[some], at, step[some] + 1)
        found[order[some], at, step[some] + 1] = similarity(first[at], attributed(masked, trials.targets[at]))
    # A step that masks nothing leaves what was.
    steps = torch.arange(1, found.shape[2], device=fresh.device)
    similarities = found.gather(2, torch.where(fresh, steps, 0).cummax(2).values).cpu()
    outputs = trials.states.outputs.cpu()
    changes = output_changes(outputs, relative)
    on_mosaics = attributed(trials.mosaics, trials.targets)
    return Scores(
        robustness(changes, similarities),
        weighted_share(first, trials.states.signs).cpu(),
        weighted_share(on_mosaics, trials.score_maps.unsqueeze(1)).cpu(),
        similarities,
        outputs,
        changes,
    )


def attribution(maps: Tensor) -> Tensor:
    """Positive parts of maps (N, C, H, W), divided by their maximum; 0 where nothing is positive.

    Raises:
        InputError: a map is not finite.
    """
    positive = as_relevance(maps).clamp(min=0)
    largest = positive.amax((1, 2, 3), keepdim=True)
    return positive / largest.masked_fill(largest == 0, 1)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """:math:`sim` (Eq. 13) of attributions (N, C, H, W) twice: (N,) float64 from 0 to 1; 1 where both are 0."""
    first, second = first.double().flatten(1), second.double().flatten(1)
    return 1 - _fraction((first - second).abs().sum(1), first.sum(1) + second.sum(1))


def output_changes(outputs: Tensor, relative: str = "paper") -> Tensor:
    """:math:`d^o` (M, T) of outputs (2, M, T + 1).

    Raises:
        InputError: another way than ``RELATIVE``.
    """
    if relative not in RELATIVE:
        raise InputError(f"config: `evaluation.gae.relative` is {relative!r}; choose one of {', '.join(RELATIVE)}")
    first, after = outputs[..., :1], outputs[..., 1:]
    if relative != "code":
        whole = first[LERF].abs() if relative == "magnitude" else first[LERF]
        return _fraction(after[LERF] - after[MORF], whole)
    changed = _fraction((first - after).abs(), first.abs() + after.abs())
    return changed[MORF] - changed[LERF]


def robustness(changes: Tensor, similarities: Tensor) -> Tensor:
    """:math:`LC_R` (M,) of :math:`d^o` (M, T) and similarities (2, M, T); 1 where neither changes."""
    of_maps = similarities[LERF] - similarities[MORF]
    norms = changes.abs().sum(1) + of_maps.abs().sum(1)
    return 1 - 2 * _fraction((changes - of_maps).abs().sum(1), norms)


def weighted_share(attributions: Tensor, weights: Tensor) -> Tensor:
    r""":math:`\sum A \cdot w / \|A\|_1` (M,) float64, of attributions and weights (M, C, H, W).

    What has one channel is the same in all.
    """

    def share(attributions: Tensor, weights: Tensor) -> Tensor:
        attributions = attributions.double()
        if attributions.shape[1] == 1:
            weights = weights.double().mean(1, keepdim=True)
        return _fraction((attributions * weights).sum((1, 2, 3)), attributions.sum((1, 2, 3)))

    return by_chunks(share, attributions, weights)


def _fraction(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A quotient, 0 where the denominator is 0."""
    empty = denominator == 0
    return torch.where(empty, 0.0, numerator / denominator.masked_fill(empty, 1))


def _chunks(count: int, elements: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Ascending places of ``count`` inputs of so many elements; all chunks but the last are of whole batches."""
    rows = max(1, _ELEMENTS // (elements * batch_size)) * batch_size
    return iter(torch.arange(count, device=device).split(rows))


@torch.inference_mode()
def _logits(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """(N, classes) float64.

    Raises:
        InputError: one is not finite.
    """
    logits = torch.cat([pooled_scores(model(some.double())) for some in images.split(batch_size)])
    if not bool(logits.isfinite().all()):
        raise InputError("gae: the model gives NaN or infinity for some images; check both for NaN")
    return logits
