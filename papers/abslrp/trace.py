"""Global Attribution Evaluation of one mosaic, laid open (Figures 2, 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from relmap.catalogue.methods import find
from relmap.explanation import explain
from relmap.metrics.gae import attribution, evaluate, output_changes, prepare
from relmap.metrics.gae_states import combined, shares
from relmap.propagation import Propagator
from torch import Tensor, nn


def scored_maps(propagator: Propagator, images: Tensor, targets: Tensor, method: str, batch_size: int) -> Tensor:
    """What the evaluation sees of a method's maps, (N, H, W): positive parts over their maximum, summed over channels.

    Args:
        propagator: of the model.
        images: (N, C, H, W), normalised.
        targets: (N,).
        method: id.
        batch_size: images at a time.
    """
    maps = explain(propagator, images, targets, method, batch_size=batch_size, by_channel=True)
    return attribution(maps).sum(1)


def trace(
    model: nn.Module,
    images: Tensor,
    quadrant: int,
    methods: Sequence[str],
    settings: Mapping[str, Any],
    labels: Sequence[int],
    batch_size: int = 16,
) -> dict[str, np.ndarray]:
    """All that the evaluation of one mosaic rests on.

    Args:
        model: a classifier in evaluation mode.
        images: the four, (4, C, H, W), normalised.
        quadrant: of the positive one.
        methods: ids.
        settings: ``evaluation.gae`` of the config.
        labels: of the four, for its ``score_classes``.
        batch_size: images at a time.

    Returns:
        ``target``, the class that is explained, and ``classes``, those of the four in the score map; ``masked`` (T,),
        the shares that the steps mask; ``outputs`` (2, T + 1) and ``changes`` (T,) of the logit; ``impacts`` (2, H, W)
        and ``combined`` (H, W), summed over channels; ``signs`` (H, W), their mean over channels; ``score_map`` (H, W).
        The first axis of two is MoRF and LeRF. For each method ``similarities/<id>`` (2, T), ``robustness/<id>``,
        ``faithfulness/<id>``, ``contrastiveness/<id>``, and ``on_mosaic/<id>`` (H, W), what the mosaic is scored by.
    """
    trials = prepare(
        model,
        images[None],
        torch.tensor([quadrant]),
        labels=torch.as_tensor(labels)[None],
        steps=settings["steps"],
        masking=settings["masking"],
        score_classes=settings["score_classes"],
        batch_size=batch_size,
    )
    states, propagator = trials.states, Propagator(model, tuple(images.shape[1:]))
    arrays = {
        "target": trials.targets[0],
        "classes": trials.classes[0],
        "outputs": states.outputs[:, 0],
        "changes": output_changes(states.outputs, settings["relative"])[0],
        "impacts": states.impacts[:, 0].sum(1),
        "combined": combined(states.impacts)[0].sum(0),
        "signs": states.signs[0].float().mean(0),
        "score_map": trials.score_maps[0],
    }
    for method in methods:
        found = evaluate(propagator, trials, find(method), settings["relative"], batch_size)
        arrays |= {
            f"similarities/{method}": found.similarities[:, 0],
            f"robustness/{method}": found.robustness[0],
            f"faithfulness/{method}": found.faithfulness[0],
            f"contrastiveness/{method}": found.contrastiveness_signed[0],
            f"on_mosaic/{method}": scored_maps(propagator, trials.mosaics, trials.targets, method, batch_size)[0],
        }
    return {"masked": shares(settings["steps"]), **{name: value.cpu().numpy() for name, value in arrays.items()}}
