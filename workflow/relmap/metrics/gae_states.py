r"""What GAE asks of the network alone (Vukadin et al. 2024, Section 3.2): masked inputs, outputs, impact maps.

From the image :math:`x_0` on, each element i (a pixel's channel) has the impact

.. math:: I_t = \Big| x_t \odot \frac{\partial |o(x_t)|}{\partial x_t} \Big|

on the target's logit o. Step t = 1, ..., T sets the share

.. math:: p_t = 0.1 + 0.8\, \frac{t - 1}{T - 1}

of all elements to 0, those of the highest :math:`I_{t-1}` (MoRF) or of the lowest (LeRF); what is 0 stays 0. The
combined impact map is

.. math:: I_c = \frac{\sum_{t<T} I_t^{Le}}{\|\sum_{t<T} I_t^{Le}\|_1} - \frac{\sum_{t<T} I_t^{Mo}}{\|\cdot\|_1}

``masking`` says what the share is of, which the text does not tell:

- ``reselect``: of the current ranking, whatever was masked before (the authors' code). Elements that are 0 have no
  impact: LeRF takes them again, so that a share :math:`p_t` is masked, and MoRF takes new ones, so that the image is
  black after about half of the steps.
- ``cumulative``: of the image: masked elements are among the :math:`p_t` in both orders.

Ties go by raster order, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.metrics.ranking import entry_ranks
from relmap.network.score_maps import pooled_scores

MASKINGS = ("reselect", "cumulative")
EPSILON = 1e-30
"""Least sum that is divided by: where nothing has an impact, nothing has a share of it."""
# Convolutions of float64 unfold a batch on the CPU, which leaves its cache.
_CPU_BATCH = 4
MORF, LERF = 0, 1
"""The two orders, as the first axis of what is kept of them."""


@dataclass(frozen=True)
class States:
    """M images on their way to black, most impact first (place 0 of the first axis) and least first (place 1).

    Attributes:
        masked_at: (2, M, C, H, W) uint8: the step that sets an element to 0; T + 1 for none.
        outputs: (2, M, T + 1) float64: the target's logit of the image and after each step.
        impacts: (2, M, C, H, W) float32: sums of :math:`I_t` over t < T.
        signs: (M, C, H, W) int8: signs of :math:`I_c`; 1 where it is 0 (the authors' code).
        fresh: (2, M, T) bool: whether step t masks anything that was not masked. MoRF is soon black, and what a
            network and its maps say of an input need not be asked twice.
    """

    masked_at: Tensor
    outputs: Tensor
    impacts: Tensor
    signs: Tensor
    fresh: Tensor

    @property
    def steps(self) -> int:
        return self.outputs.shape[2] - 1

    def masked(self, images: Tensor, order: Tensor, image: Tensor, step: Tensor) -> Tensor:
        """Inputs (B, C, H, W) of some orders, images and steps, (B,) each, out of the images (M, C, H, W)."""
        return images[image].masked_fill(self.masked_at[order, image] <= step.view(-1, 1, 1, 1), 0)


def shares(steps: int) -> np.ndarray:
    """Shares :math:`p_t` of the elements that the steps mask, (T,)."""
    return np.linspace(0.1, 0.9, steps)


def combined(impacts: Tensor) -> Tensor:
    """Combined impact maps :math:`I_c` (M, C, H, W) of the sums of both orders (2, M, C, H, W)."""
    parts = impacts / impacts.sum((2, 3, 4), keepdim=True).clamp(min=EPSILON)
    return parts[LERF] - parts[MORF]


def states(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    steps: int = 10,
    masking: str = "reselect",
    batch_size: int = 64,
) -> States:
    """Mask M images step by step, both orders of a batch together.

    Computed in the model's precision. Rankings turn on less than float32 keeps from one batch size to another: give
    ``model.double()``.

    Args:
        model: a classifier in evaluation mode.
        images: (M, C, H, W), normalised, on its device.
        targets: (M,).
        steps: T, at most 254.
        masking: key of ``MASKINGS``.
        batch_size: images of one forward and backward pass.

    Raises:
        InputError: another masking, other numbers of steps, or a model that gives NaN.
    """
    if masking not in MASKINGS:
        raise InputError(f"config: `evaluation.gae.masking` is {masking!r}; choose {' or '.join(MASKINGS)}")
    if not 1 <= steps <= 254:
        raise InputError(f"config: `evaluation.gae.steps` is {steps}; give 1 to 254")
    images = images.to(next(model.parameters(), images).dtype)
    batches = zip(images.split(batch_size), targets.split(batch_size), strict=True)
    parts = [_states(model, *batch, steps, masking == "cumulative", batch_size) for batch in batches]
    masked_at, outputs, impacts, signs, fresh = zip(*parts, strict=True)
    return States(
        *(torch.cat(part, 1) for part in (masked_at, outputs, impacts)), torch.cat(signs), torch.cat(fresh, 1)
    )


def _states(
    model: nn.Module, images: Tensor, targets: Tensor, steps: int, cumulative: bool, batch_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What ``States`` holds, of one batch."""
    both, originals = targets.repeat(2), images.repeat(2, 1, 1, 1)
    masked_at = torch.full(originals.shape, steps + 1, dtype=torch.uint8, device=images.device)
    # The two orders begin at the same image.
    output, impact = (torch.cat([part, part]) for part in _impacts(model, images, targets, batch_size))
    outputs, sums, fresh = [output], impact.double().clone(), []
    for step, share in enumerate(shares(steps), start=1):
        # The margin keeps shares such as 0.3 of 10 whole in floating point.
        chosen = _ranks(impact, masked_at <= steps if cumulative else None) < int(share * images[0].numel() + 1e-6)
        masked_at[chosen & (masked_at > steps)] = step
        fresh.append((masked_at == step).flatten(1).any(1))
        rows = fresh[-1].nonzero()[:, 0]
        output = output.clone()
        if len(rows):
            masked = originals[rows].masked_fill(masked_at[rows] <= steps, 0)
            output[rows], impact[rows] = _impacts(model, masked, both[rows], batch_size)
        outputs.append(output)
        if step < steps:
            sums += impact
    halves = (2, len(images))
    sums = sums.unflatten(0, halves)
    signs = torch.where(combined(sums) >= 0, 1, -1).to(torch.int8)
    outputs, fresh = (torch.stack(part, 1).unflatten(0, halves) for part in (outputs, fresh))
    return masked_at.unflatten(0, halves), outputs.double(), sums.float(), signs, fresh


def _ranks(impact: Tensor, ahead: Tensor | None) -> Tensor:
    """Ranks of the elements of both orders (2 B, ...): of the first half descending, of the second ascending.

    ``ahead``: which elements go before all others.
    """
    most, least = impact.chunk(2)
    if ahead is not None:
        most, least = (
            most.masked_fill(ahead[: len(most)], impact.max() + 1),
            least.masked_fill(ahead[len(most) :], -1),
        )
    return torch.cat([entry_ranks(most), entry_ranks(least, descending=False)])


def _impacts(model: nn.Module, images: Tensor, targets: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """The targets' logits (N,) and the impacts (N, C, H, W) of images."""
    outputs, impacts = [], []
    if images.dtype == torch.float64 and images.device.type == "cpu":
        batch_size = min(batch_size, _CPU_BATCH)
    for some, of_class in zip(images.split(batch_size), targets.split(batch_size), strict=True):
        leaf = some.detach().requires_grad_(True)
        with torch.enable_grad():
            output = pooled_scores(model(leaf)).gather(1, of_class[:, None])[:, 0]
            (gradient,) = torch.autograd.grad(output.abs().sum(), leaf)
        outputs.append(output.detach())
        impacts.append((some * gradient).abs())
    logits = torch.cat(outputs)
    if not bool(logits.isfinite().all()):
        raise InputError("gae: the model gives NaN or infinity for some images; check both for NaN")
    return logits, torch.cat(impacts)
