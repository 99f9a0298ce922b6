"""What is said about images that cannot be meant, and about maps that are none."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from relmap.catalogue.methods import BLOCKS, Method
from relmap.errors import InputError, RelevanceWarning
from relmap.explainers.base import Explainer, Relevance
from relmap.network import Graph
from relmap.network.graph import Operation
from relmap.propagation import Activations
from relmap.propagation.rules.blocks import residual_blocks

GROWTH = 1e3
"""How often its start's absolute sum relevance may hold before it is called an explosion."""


def check_images(images: Tensor, input_range: tuple[tuple[float, ...], tuple[float, ...]] | None) -> None:
    """Refuse images (N, C, H, W) that the model cannot have been made for.

    Args:
        images: as they were given.
        input_range: lowest and highest value per channel that the model says it takes, where it says so.

    Raises:
        InputError: whole numbers, not a number, another order of dimensions, or outside the range.
    """
    if not images.is_floating_point():
        raise InputError(
            f"images hold whole numbers ({images.dtype}), as photographs do from 0 to 255: normalise them as the model "
            "was trained, such as (images.float() / 255 - mean) / std"
        )
    if not bool(images.isfinite().all()):
        wrong = int((~images.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"image {wrong} holds NaN or infinity: leave it out, or load it again")
    if images.dim() != 4:
        return
    if images.shape[-1] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        raise InputError(
            f"images have shape {tuple(images.shape)}, which looks like (N, H, W, C): give (N, C, H, W), "
            "images.permute(0, 3, 1, 2)"
        )
    low, high = (float(value) for value in torch.aminmax(images))
    if input_range is not None:
        _check_range(images, *input_range)
    elif low >= 0 and high > 16:
        raise InputError(
            f"images run from {low:.4g} to {high:.4g}, as photographs from 0 to 255 that were not normalised: give "
            "them as the model was trained, such as (images / 255 - mean) / std"
        )


def _check_range(images: Tensor, low: tuple[float, ...], high: tuple[float, ...]) -> None:
    least, most = images.amin((0, 2, 3)).tolist(), images.amax((0, 2, 3)).tolist()
    for channel, bounds in enumerate(zip(least, most, low, high, strict=False)):
        a, b, lowest, highest = bounds
        slack = 1e-3 * (highest - lowest)
        if a < lowest - slack or b > highest + slack:
            raise InputError(
                f"images run from {a:.4g} to {b:.4g} in channel {channel}, and the model takes {lowest:.4g} to "
                f"{highest:.4g}: normalise them as it was trained"
            )


def check_classes(row: Method, logits: Tensor) -> None:
    """Refuse to set a class against others where there are none.

    Raises:
        InputError: the method is contrastive, the model has one output.
    """
    if row.contrastive and logits.shape[1] == 1:
        raise InputError(
            f"method {row.id!r} sets the target against the other classes, and this model has one output: choose a "
            "method that explains one score, such as lrp_alpha1_beta0, or give a model of two outputs, "
            "torch.cat([-z, z], 1)"
        )


def check_maps(row: Method, maps: Tensor, first: int, classes: int) -> None:
    """Refuse maps (N, K, ...) that hold NaN or infinity, and say so where one is 0 everywhere.

    Args:
        row: whose maps they are.
        first: number of the first image among those that the user gave.
        classes: of the model.

    Raises:
        InputError: one is not finite.
    """
    wrong = ~maps.isfinite().flatten(2).all(2)
    if bool(wrong.any()):
        image, target = wrong.nonzero()[0].tolist()
        reason = (
            "The model has one output, and the method compares classes: choose another"
            if classes == 1
            else "Its sums outgrow the type, or a share is divided by 0: explain model.double() and images.double(), "
            "or choose another method"
        )
        raise InputError(
            f"method {row.id!r}: the map of image {first + image}, target {target}, holds NaN or infinity. {reason}"
        )
    empty = ~maps.flatten(2).any(2)
    if bool(empty.any()):
        image, target = empty.nonzero()[0].tolist()
        warnings.warn(
            f"method {row.id!r}: {int(empty.sum())} of {empty.numel()} maps are 0 everywhere, first that of image "
            f"{first + image}, target {target}: nothing speaks for the class by this method, or no relevance arrives",
            RelevanceWarning,
            stacklevel=2,
        )


def warn_of_noise(row: Method, graph: Graph) -> None:
    """Say so where a method is known to leave noise on a network of this kind."""
    if BLOCKS in row.noisy_on and residual_blocks(graph):
        warnings.warn(
            f"method {row.id!r} treats skip connections as its authors do, by signed shares or by copies; on trained "
            "residual networks what arrives is noise, little better than random maps, and float32 and float64 "
            "disagree: choose abslrp or lrp_alpha1_beta0 there",
            RelevanceWarning,
            stacklevel=2,
        )


def warn_of_growth(row: Method, explainer: Explainer, activations: Activations, targets: Tensor, maps: Tensor) -> None:
    """Say so where relevance has grown beyond meaning on its way, and name the layer where it began.

    Args:
        explainer: by which ``maps`` (N, K, ...) were made.
        targets: (K, N).
    """
    if not isinstance(explainer, Relevance):
        return
    starts: list[Tensor] = []
    growth: list[tuple[Tensor, Operation]] = []

    def observe(operation: Operation, relevance: Tensor, parts: tuple[Tensor, ...]) -> None:
        arrived = _absolute_sum(relevance)
        starts.append(arrived) if not starts else None
        growth.append((sum(_absolute_sum(part) for part in parts) / arrived.clamp(min=1e-30), operation))

    # The start is known from a walk alone; a map's absolute sum is less than that of its channels.
    largest = maps.abs().flatten(2).sum(2).max()
    scale = activations.logits.abs().max().clamp(min=1)
    if float(largest) <= GROWTH * float(scale):
        return
    explainer.read(replace(activations, observers={explainer.walk: observe}), targets)
    factor, operation = max(((float(ratio.max()), operation) for ratio, operation in growth), key=lambda pair: pair[0])
    warnings.warn(
        f"method {row.id!r}: relevance has grown to {float(largest):.2g} from {float(starts[0].max()):.2g}. Most "
        f"begins at {operation.name!r} ({operation.kind}), by {factor:.2g} times. "
        "That is the rule's own, where what it divides by is near 0: choose lrp_alpha1_beta0, abslrp or "
        "input_x_gradient for this network",
        RelevanceWarning,
        stacklevel=2,
    )


def _absolute_sum(relevance: Tensor) -> Tensor:
    return relevance.abs().flatten(2).sum(2)
