"""The library's face: maps of images by one method, or by several that share a forward pass."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from relmap.catalogue.methods import CATALOGUE, Method, find
from relmap.errors import InputError
from relmap.explainers.base import Explainer, JointRun, SharedPass, as_channel_maps, as_maps
from relmap.explainers.building import as_propagator, build
from relmap.explainers.soundness import check_classes, check_images, check_maps, warn_of_growth, warn_of_noise
from relmap.job.memory import as_memory_bears
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Activations, Propagator, Walk


def methods() -> tuple[Method, ...]:
    """All methods of the catalogue: ids, labels, citations and needs. A paper's own are in its rows."""
    return tuple(CATALOGUE.values())


def explain(
    model: nn.Module | Propagator,
    images: Tensor,
    targets: Tensor | Sequence[int] | int | None = None,
    method: str | Method = "abslrp",
    *,
    batch_size: int = 16,
    by_channel: bool = False,
    **parameters: Any,
) -> Tensor:
    """Maps of what the model's scores for some classes rest on.

    Args:
        model: a classifier; give a ``Propagator(model)`` to trace it once for several calls.
        images: (N, C, H, W), normalised as the model takes them; (N, T) token ids for a text classifier; (N, C, L) of
            signals and (N, C, D, H, W) of volumes.
        targets: classes, one for all, (N,), or (N, K) for K maps of each image, which share everything; by default the
            predicted ones.
        method: an id of ``methods()``, or a row of your own.
        batch_size: images at a time; it does not change the result.
        by_channel: keep the channels of the images: (N, C, H, W), or (N, K, C, H, W). C is 1 where a method tells none
            apart, and saliency, DeconvNet and guided backpropagation show what their maps take the largest of.
        parameters: of the method, see the class that its row in ``methods()`` names.

    Returns:
        (N, H, W), or (N, K, H, W); (N, T) or (N, K, T) for tokens. Relevance summed over the channels, signed, not
        normalised; maps of inner layers are resized bilinearly.

    Raises:
        InputError: an unknown method, parameter, class or operation of the model; shapes that do not agree; images that
            cannot be meant; a map with NaN or infinity; a graph that is not the model.

    Warns:
        RelevanceWarning: a map that is 0 everywhere, that explodes, or that is known to be noise on such a network.

    Example:
        >>> maps = relmap.explain(model, images, method="lrp_epsilon")
    """
    given = {method: parameters}
    return compare(model, images, targets, given, batch_size=batch_size, by_channel=by_channel)[find(method).id]


def compare(
    model: nn.Module | Propagator,
    images: Tensor,
    targets: Tensor | Sequence[int] | int | None,
    methods: str | Sequence[str | Method] | Mapping[str | Method, Mapping[str, Any]],
    *,
    batch_size: int = 16,
    by_channel: bool = False,
) -> dict[str, Tensor]:
    """``explain`` by several methods, by id; ``methods`` may map them to parameters.

    Those that read a forward pass share one for each batch; the others run the network themselves, of which those that
    run it on the same inputs, such as the patches of UCAG, share these.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    chosen = _with_parameters(methods)
    propagator = as_propagator(model, images)
    images = model_input(propagator, images)
    rows = {row.id: row for row, _ in chosen}
    for row in rows.values():
        warn_of_noise(row, propagator.graph)
    together = _together(
        propagator, {row.id: build(propagator, row, **given) for row, given in chosen}, rows, by_channel
    )
    known = None if targets is None else classes(targets, len(images))
    maps: dict[str, list[Tensor]] = {method: [] for method in together.explainers}

    def make(batch: slice) -> dict[str, Tensor]:
        return _maps_of_batch(together, images[batch], None if known is None else known[batch], batch.start)

    for of_batch in as_memory_bears(len(images), batch_size, make):
        for method, found in of_batch.items():
            maps[method].append(found)
    alone = known is None or torch.as_tensor(targets).dim() < 2
    return {method: torch.cat(parts)[:, 0] if alone else torch.cat(parts) for method, parts in maps.items()}


@dataclass(frozen=True)
class _Together:
    """Explainers by method, and what those that share a forward pass need it to keep."""

    propagator: Propagator
    explainers: Mapping[str, Explainer]
    rows: Mapping[str, Method]
    walks: Sequence[Walk]
    keep: Sequence[str]
    by_channel: bool


def _with_parameters(
    methods: str | Method | Sequence[str | Method] | Mapping[str | Method, Mapping[str, Any]],
) -> list[tuple[Method, Mapping[str, Any]]]:
    """The rows of some methods, each with the parameters that are given for it.

    Raises:
        InputError: an unknown method, or one that is given twice.
    """
    methods = (methods,) if isinstance(methods, str | Method) else methods
    parameters = methods if isinstance(methods, Mapping) else {method: {} for method in methods}
    rows = [find(method) for method in parameters]
    ids = [row.id for row in rows]
    if len(set(ids)) < len(ids):
        raise InputError(f"method {max(ids, key=ids.count)!r} is given more than once; give each id once")
    return list(zip(rows, parameters.values(), strict=True))


def _together(
    propagator: Propagator, explainers: Mapping[str, Explainer], rows: Mapping[str, Method], by_channel: bool
) -> _Together:
    shared = [explainer for explainer in explainers.values() if isinstance(explainer, SharedPass)]
    walks = [walk for explainer in shared for walk in explainer.walks]
    keep = [name for explainer in shared for name in explainer.keep]
    return _Together(propagator, explainers, rows, walks, keep, by_channel)


def _maps_of_batch(together: _Together, images: Tensor, targets: Tensor | None, first: int) -> dict[str, Tensor]:
    """(N, K, H, W) or (N, K, C, H, W) by method, where the images lie; by default of the predicted classes.

    ``first``: number of the first image among all.
    """
    batch = images.to(together.propagator.device)
    activations = together.propagator.forward(batch, together.walks, together.keep)
    of_batch = explained(activations.logits, targets)
    by_target = of_batch.T  # one tensor for all methods: those that read the same backward pass share it
    for row in together.rows.values():
        check_classes(row, activations.logits)
    maps, joint = {}, _joint_runs(together, batch, of_batch)
    for method, explainer in together.explainers.items():
        row = together.rows[method]
        if isinstance(explainer, SharedPass):
            found = _read(explainer, activations, by_target, batch, together.by_channel)
            warn_of_growth(row, explainer, activations, by_target, found)
        else:
            make = explainer.by_channel if together.by_channel else explainer
            found = joint[method] if method in joint else make(batch, of_batch)
            found = checked(found, of_batch, batch, method, together.by_channel)
        check_maps(row, found, first, activations.logits.shape[1])
        maps[method] = found.to(images.device)
    return maps


def _joint_runs(together: _Together, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Maps (N, K, ...) of the methods that run the network on inputs of their own making and may share them."""
    groups: dict[Hashable, dict[str, JointRun]] = {}
    for method, explainer in together.explainers.items():
        if isinstance(explainer, JointRun):
            groups.setdefault((type(explainer), explainer.inputs), {})[method] = explainer
    maps: dict[str, Tensor] = {}
    for group in groups.values():
        first, *_ = members = list(group.values())
        maps |= zip(group, first.together(members, images, targets, together.by_channel), strict=True)
    return maps


def _read(explainer: SharedPass, activations: Activations, targets: Tensor, images: Tensor, by_channel: bool) -> Tensor:
    """(N, K, H, W) or, ``by_channel``, (N, K, C, H, W) of a method that shares the pass, of targets (K, N)."""
    if by_channel:
        return as_channel_maps(explainer.read_by_channel(activations, targets), images.shape).transpose(0, 1)
    return as_maps(explainer.read(activations, targets), images.shape).transpose(0, 1)


def checked(maps: Tensor, targets: Tensor, images: Tensor, method: str, by_channel: bool = False) -> Tensor:
    """What an explainer of someone's own returned, if its shape is (N, K, H, W), or (N, K, T) of tokens.

    ``by_channel``: if it is (N, K, C, H, W) or (N, K, 1, H, W).

    Raises:
        InputError: it is not.
    """
    expected = (*targets.shape, *(images.shape[2:] or images.shape[1:]))
    if by_channel:
        merged = maps.shape[2:3] == (1,)
        expected = (*targets.shape, 1 if merged else images.shape[1], *images.shape[2:])
    if not isinstance(maps, Tensor) or tuple(maps.shape) != expected:
        given = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"method {method!r} must return maps of shape {expected}, a map a target; it returned {given}")
    return maps


def model_input(propagator: Propagator, images: Tensor) -> Tensor:
    """Images, or token ids, as the model takes them.

    Raises:
        InputError: no tensor, one without images, or images that cannot be meant.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images must be one tensor, not {type(images).__name__}; torch.as_tensor and stack make one")
    if images.dim() == 0 or len(images) == 0:
        raise InputError(f"images have shape {tuple(images.shape)}: there is none to explain")
    if images.is_floating_point() or images.dim() != 2:
        check_images(images, getattr(propagator.model, "input_range", None))
    return images


def classes(targets: Tensor | Sequence[int] | int, count: int) -> Tensor:
    """Targets of this many images as (N, K)."""
    targets = _whole_numbers(targets)
    if targets.dim() == 0:
        targets = targets.expand(count)
    if targets.dim() > 2 or len(targets) != count:
        raise InputError(f"targets have shape {tuple(targets.shape)}; {count} images need ({count},) or ({count}, K)")
    return (targets if targets.dim() == 2 else targets[:, None]).long()


def _whole_numbers(targets: Tensor | Sequence[int] | int) -> Tensor:
    """Targets as one tensor of whole numbers, of whatever shape.

    Raises:
        InputError: they are text, of unequal lengths, or not whole numbers.
    """
    if isinstance(targets, str):
        raise InputError(f"targets are numbers of classes, not {targets!r}; give a method as method={targets!r}")
    try:
        targets = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"targets must be whole numbers, as many for each image: {error}") from error
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InputError(f"targets must be whole numbers, not {targets.dtype}")
    return targets


def explained(logits: Tensor, targets: Tensor | None) -> Tensor:
    """The classes to explain, (N, K) beside the logits: the targets, or the predicted ones.

    Raises:
        InputError: a target is no class of the model, or the model has none.
    """
    if logits.dim() < 2:
        raise InputError(f"the model's output has shape {tuple(logits.shape)}, not (N, C): a score for each class")
    if targets is None:
        return pooled_scores(logits).argmax(1)[:, None]
    wrong = targets[(targets < 0) | (targets >= logits.shape[1])]
    if len(wrong):
        raise InputError(f"target {int(wrong[0])} is no class of this model; it has {logits.shape[1]}, counted from 0")
    return targets.to(logits.device)
