r"""Cascading randomisation (Adebayo et al. 2018; AE, Figure 7): does a map change when the network forgets?

Layer by layer, from the output on, trained weights are replaced by random ones, W from Xavier's uniform distribution
and b from U(0, 1) as in AE's code, and the same method explains the network that is left. A map that stays as it was
does not show what the network has learnt. Similarity is Spearman's rank correlation, and SSIM of the maps brought to
[0, 1]; each of the signed maps and of their absolute values, between which a mere change of sign lies.

A layer is a module with parameters of its own, in the order of its last call. Its random weights follow from its name
and the seed, so that stage s + 1 is stage s and one layer more. Vectors, such as the scales of a batch norm, are
diagonals by Xavier's formula: U(-\sqrt 3, \sqrt 3). The running statistics of batch norms stay: they are no weights,
and what a network of random weights would have measured is not known. Computed in float64, for random residual
networks outgrow float32.

Rows ``cascade_rank_signed``, ``cascade_rank_absolute``, ``cascade_ssim_signed`` and ``cascade_ssim_absolute``; their
level is the number of layers that are random.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from relmap.errors import InputError, RelevanceWarning
from relmap.explanation import explain
from relmap.metrics.similarity import rank_correlation, structural_similarity
from relmap.network.random_weights import randomise

if TYPE_CHECKING:
    from relmap.catalogue.methods import Method
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

SIMILARITIES = {"rank": rank_correlation, "ssim": structural_similarity}


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Similarity to the trained network's maps, of the first images of the case.

    Raises:
        InputError: the case has no row of the method, which a map of another network needs.
    """
    if method not in case.methods:
        raise InputError(f"cascade: no row of method {method} is known to the case, so that none can explain anew")
    settings = case.settings["cascade"]
    part = case.of_first_images(settings["images"])
    if part.pairs.empty:
        return part.tidy(method, "cascade_rank_signed", part.pairs["target"].to_numpy(float))
    before = part.of(maps).to(case.device)
    levels, after = [], []
    for level, found in randomised_maps(
        case.model, case.methods[method], part.images, part.targets, settings["stages"], case.seed, case.batch_size
    ):
        levels.append(level)
        after.append(found)
    rows = []
    for name, similarity in SIMILARITIES.items():
        signed = torch.stack([similarity(before, found) for found in after], dim=1)
        absolute = torch.stack([similarity(before.abs(), found.abs()) for found in after], dim=1)
        rows += [part.tidy(method, f"cascade_{name}_signed", signed, levels)]
        rows += [part.tidy(method, f"cascade_{name}_absolute", absolute, levels)]
    return pd.concat(rows, ignore_index=True)


def randomised_maps(
    model: nn.Module,
    method: Method,
    images: Tensor,
    targets: Tensor,
    stages: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Iterator[tuple[int, Tensor]]:
    """Maps of networks whose last layers are random.

    Args:
        model: a classifier; it stays as it is.
        method: what explains.
        images: (N, C, H, W), normalised.
        targets: (N,).
        stages: at most so many numbers of random layers, evenly from 1 to all; None for each.
        seed: of the weights.
        batch_size: images at a time.

    Yields:
        Number of random layers, and maps (N, H, W) float64.

    Raises:
        InputError: the network has no parameters, or a map is not finite.
    """
    model = copy.deepcopy(model).double().eval()
    images = images.double()
    layers = layers_from_the_output(model, images[:1])
    if not layers:
        raise InputError(f"cascade: {type(model).__name__} has no parameters, nothing can be randomised")
    done = 0
    for level in stage_levels(len(layers), stages):
        for layer in layers[done:level]:
            randomise(model, layer, seed)
        done = level
        with warnings.catch_warnings():
            # That maps of a random network are empty or explode is what is measured.
            warnings.simplefilter("ignore", RelevanceWarning)
            maps = explain(model, images, targets, method, batch_size=batch_size)
        yield level, maps


def stage_levels(layers: int, stages: int | None) -> list[int]:
    """Numbers of random layers: from 1 to all of them, at most ``stages``, evenly."""
    if stages is None or stages >= layers:
        return list(range(1, layers + 1))
    if stages == 1:
        return [layers]
    return [1 + (layers - 1) * step // (stages - 1) for step in range(stages)]


@torch.no_grad()
def layers_from_the_output(model: nn.Module, image: Tensor) -> list[list[str]]:
    """Names of parameters, a list a layer, the layer whose last call is latest first.

    A parameter belongs to the innermost module that is called: attention runs its output's weights without calling
    them. What belongs to a module around others, such as a class token, comes when they have all been randomised.
    """
    calls: dict[str, int] = {}
    clock = iter(range(1 << 62))
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: calls.__setitem__(name, next(clock)))
        for name, module in model.named_modules()
    ]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    layers: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        owner = name.rpartition(".")[0]
        while owner and owner not in calls:
            owner = owner.rpartition(".")[0]
        layers.setdefault(owner, []).append(name)
    return [layers[owner] for owner in sorted(layers, key=lambda owner: calls[owner], reverse=True)]
