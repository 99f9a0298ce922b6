r"""Relative Attributing Propagation (Nam et al. 2020).

With :math:`W = W^+ + W^-`, relevance :math:`R = R^+ + R^-`, denominators :math:`z^+ = W^+ x` and :math:`z^- = |W^-| x`:

.. math::
    C = x \odot \left( W^{+T} \frac{R^+}{z^+} + |W^-|^T \left( \frac{R^-}{z^-} + \frac{R}{z^+ + z^-} [z^- \ne 0] \right)
        \right), \qquad
    R' = C - \frac{\sum C - \sum R}{\#\{C \ne 0\}} [C \ne 0]

per image and target; so the sum is conserved. In linear layers the negative relevance travels by the positive weights
too: :math:`W^{+T} R / z^+`. Everything through one weight is one transposed convolution: two for both signs.

The first step, from the class scores, spreads a start by the absolute contributions (``AbsoluteShare``):
:math:`R' = |x| \odot |W|^T (S / |W||x|)`. The authors define it for one target; it is linear in the start ``S``, and so
is defined for a signed start over all classes as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from relmap.propagation.rules.base import Record, Rule, per_image_sum, pull_back
from relmap.propagation.rules.structure import Winner


class PassNonZero(Rule):
    """Relevance passes unchanged where the input is not 0 (batch norms of RAP, RSP and Attribution Equilibrium)."""

    needs_inputs = True
    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return (relevance * (record.inputs[0] != 0),)


def widened(numerator: Tensor, denominator: Tensor, epsilon: float) -> Tensor:
    """``numerator / (denominator + epsilon)``, 0 where the denominator is 0."""
    return numerator / torch.where(denominator == 0, torch.inf, denominator + epsilon)


def shifted(relevance: Tensor, total: Tensor, epsilon: float = 0.0) -> Tensor:
    """Relevance (K, N, ...) with the same amount taken from every entry that is not 0, so that it sums to ``total``."""
    counted = relevance != 0
    number = per_image_sum(counted.to(total.dtype))
    return relevance - counted * widened(per_image_sum(relevance.to(total.dtype)) - total, number, epsilon)


@dataclass(frozen=True)
class AbsoluteShare(Rule):
    """Relevance in proportion to the absolute contributions ``|w x|``; ``epsilon`` widens the denominator."""

    epsilon: float = 0.0

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        x, affine = record.inputs[0].abs(), record.operation.affine
        absolute = affine.weights("absolute")
        s = widened(relevance, affine.apply(x, absolute), self.epsilon)
        return (affine.transpose(s, absolute, record.shapes[0]).mul_(x),)


@dataclass(frozen=True)
class RelativeAttributing(Rule):
    """``negative_by``: the weights through which negative relevance travels. ``epsilon`` widens the denominators."""

    negative_by: Literal["negative", "positive"] = "negative"
    epsilon: float = 0.0

    needs_inputs = True
    keeps_digits = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        above, below = affine.weights("positive"), affine.weights("negative")
        z_above, z_below = affine.apply(x, above), affine.apply(x, below).neg_()
        influence = widened(relevance, torch.where(z_below == 0, 0, z_above + z_below), self.epsilon)
        if self.negative_by == "positive":
            excitation, inhibition = relevance, influence
        else:
            excitation = relevance.clamp(min=0)
            inhibition = influence + widened(relevance.clamp(max=0), z_below, self.epsilon)
        shape = record.shapes[0]
        result = affine.transpose(widened(excitation, z_above, self.epsilon).to(x.dtype), above, shape)
        result = result.sub_(affine.transpose(inhibition.to(x.dtype), below, shape)).mul_(x)
        return (shifted(result, per_image_sum(relevance), self.epsilon),)


@dataclass(frozen=True)
class WidenedShare(Rule):
    """Average pooling and addition in proportion to the signed inputs, ``epsilon`` added to the denominator."""

    epsilon: float = 1e-9

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        run = record.operation.run
        s = widened(relevance, run(*record.inputs), self.epsilon)
        back = pull_back(run, s, record.shapes)
        return tuple(x * part for x, part in zip(record.inputs, back, strict=True))


@dataclass(frozen=True)
class WidenedWinner(Winner):
    """Maximum pooling: the winner ``x`` takes ``x / (x + epsilon)`` of the relevance, nothing if it is 0."""

    epsilon: float = 1e-9

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (result,) = super().__call__(record, relevance)
        (x,) = record.inputs
        return (result * widened(x, x, self.epsilon),)


@dataclass(frozen=True)
class WidenedReLU(Rule):
    """``y = max(x, 0)``: relevance times ``y / (y + epsilon)``, so that nothing passes where the ReLU is closed."""

    epsilon: float = 1e-9

    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return (relevance * widened(record.output, record.output, self.epsilon),)


@dataclass(frozen=True)
class WidenedNorm(Rule):
    r"""Batch norm: relevance times ``x w / (x w + epsilon)`` with :math:`w = g / \sqrt{v^2 + 10^{-5}}`.

    The square of the variance ``v`` is the authors'; ``w`` counts only where ``x w`` is nearly 0.
    """

    epsilon: float = 1e-9

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), settings = record.inputs, record.operation.settings
        w = (settings["std"] ** 4 + 1e-5).rsqrt()
        if settings["gain"] is not None:
            w = w * settings["gain"]
        xw = x * w.view(-1, *[1] * (x.dim() - 2))
        return (relevance * widened(xw, xw, self.epsilon),)
