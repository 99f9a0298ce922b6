"""The library's face: maps of images by one method, or by several that share a forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.explainers.catalogue import CATALOGUE, Method, build
from relmap.propagation import Propagator


def methods() -> tuple[Method, ...]:
    """All methods: ids, labels, citations and needs."""
    return tuple(CATALOGUE.values())


def explain(
    model: nn.Module | Propagator,
    images: Tensor,
    targets: Tensor | Sequence[int] | int | None = None,
    method: str = "abslrp",
    *,
    batch_size: int = 16,
    **parameters: Any,
) -> Tensor:
    """Maps of what the model's scores for some classes rest on.

    Args:
        model: a classifier; give a ``Propagator(model)`` to trace it once for several calls.
        images: (N, C, H, W), normalised as the model takes them; (N, T) token ids for a text classifier.
        targets: classes, one for all, (N,), or (N, K) for K maps of each image, which share everything; by default the
            predicted ones.
        method: an id of ``methods()``.
        batch_size: images at a time; it does not change the result.
        parameters: of the method, see the class that its row in ``methods()`` names.

    Returns:
        (N, H, W), or (N, K, H, W); (N, T) or (N, K, T) for tokens. Relevance summed over the channels, signed, not
        normalised; maps of inner layers are resized bilinearly.

    Raises:
        InputError: an unknown method, parameter, class or operation of the model; shapes that do not agree.

    Example:
        >>> maps = relmap.explain(model, images, method="lrp_epsilon")
    """
    return compare(model, images, targets, {method: parameters}, batch_size=batch_size)[method]


def compare(
    model: nn.Module | Propagator,
    images: Tensor,
    targets: Tensor | Sequence[int] | int | None,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    *,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """``explain`` by several methods, which share one forward pass; ``methods`` may map ids to parameters."""
    propagator = model if isinstance(model, Propagator) else Propagator(model)
    parameters = methods if isinstance(methods, Mapping) else {method: {} for method in methods}
    explainers = {method: build(propagator, method, **given) for method, given in parameters.items()}
    walks = [walk for explainer in explainers.values() for walk in explainer.walks]
    keep = [name for explainer in explainers.values() for name in explainer.keep]
    images = images if images.is_floating_point() or images.dim() == 2 else images.to(torch.get_default_dtype())
    chosen = None if targets is None else _classes(targets, len(images))
    maps: dict[str, list[Tensor]] = {method: [] for method in explainers}
    for begin in range(0, len(images), batch_size):
        batch = images[begin : begin + batch_size].to(propagator.device)
        activations = propagator.forward(batch, walks, keep)
        scores = activations.logits.flatten(2).sum(2) if activations.logits.dim() > 2 else activations.logits
        of_batch = scores.argmax(1)[:, None] if chosen is None else chosen[begin : begin + len(batch)]
        _check_range(of_batch, activations.logits.shape[1])
        for method, explainer in explainers.items():
            relevance = explainer(activations, of_batch.T.to(batch.device))
            maps[method].append(as_maps(relevance, batch.shape).transpose(0, 1).to(images.device))
    alone = chosen is None or not (isinstance(targets, Tensor) and targets.dim() == 2)
    return {method: torch.cat(parts)[:, 0] if alone else torch.cat(parts) for method, parts in maps.items()}


def as_maps(relevance: Tensor, shape: torch.Size) -> Tensor:
    """Relevance (K, N, C, H, W) summed over channels, or inner maps (K, N, h, w) resized: (K, N, H, W). Tokens stay."""
    if relevance.dim() == 5:
        relevance = relevance.sum(2)
    if relevance.dim() == 4 and relevance.shape[-2:] != shape[-2:]:
        relevance = F.interpolate(relevance, shape[-2:], mode="bilinear", align_corners=False)
    return relevance


def _classes(targets: Tensor | Sequence[int] | int, count: int) -> Tensor:
    """Targets as (N, K)."""
    targets = torch.as_tensor(targets)
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(f"targets must be whole numbers, not {targets.dtype}")
    if targets.dim() == 0:
        targets = targets.expand(count)
    if targets.dim() > 2 or len(targets) != count:
        raise InputError(f"targets have shape {tuple(targets.shape)}; {count} images need ({count},) or ({count}, K)")
    return (targets if targets.dim() == 2 else targets[:, None]).long()


def _check_range(targets: Tensor, classes: int) -> None:
    wrong = targets[(targets < 0) | (targets >= classes)]
    if len(wrong):
        raise InputError(f"target {int(wrong[0])} is no class of this model; it has {classes}, counted from 0")
