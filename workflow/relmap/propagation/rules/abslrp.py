r"""absLRP (Vukadin et al. 2024), Eq. 12: positive contributions over the absolute value of the output.

.. math::
    R_i = \sum_j \frac{(x_i w_{ij})^+}{|h_j|} R_j, \quad h_j = \sum_i x_i w_{ij} + b_j

In vector-Jacobian form, with ``c = R / |h|``: ``x+ * W+^T c + x- * W-^T c``; inputs that cannot be negative need the
first term only. ``h`` is the stored output, bias included, so nothing is computed again for it. Eq. 12 is linear in the
relevance and conserves nothing. What is done about that is the ``Law``:

- ``Unrestored``: Eq. 12 as printed.
- ``SignWise``: the positive and the negative relevance go through Eq. 12 separately, and each is brought back to its
  sum after every operation (what the authors used for the paper; ``r`` is Eq. 12, ``P`` a sum over one image):

  .. math:: R' = P^+ \frac{r(R^+)}{\sum |r(R^+)|} + |P^-| \frac{r(R^-)}{\sum |r(R^-)|}

  A layer spreads with non-negative weights, so :math:`\sum r(R^\pm) = \sum_j c^\pm_j z_j` with
  :math:`z_j = \sum_i (x_i w_{ij})^+`: one product for z, shared by all starts, gives both factors *before* the
  transposed product, which both signs then share. K starts cost 2 + K forward passes and not 1 + 2 K.
- ``OneSign``: the same for relevance that cannot be negative, where the factor can wait until afterwards: 1 + K.
- ``UnitSum``: what an operation sends to each input is brought to absolute sum 1 (the authors' later code).

Operations with several inputs share by the same equation; ``SignWise`` scales their parts together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, per_image_sum, pull_back, quotient, where_positive

EPSILON = 1e-9
"""The paper's stabiliser (Algorithm 1)."""
SUM_EPSILON = EPSILON / 2
"""The same for sums: Algorithm 1 returns twice Eq. 12."""

Spread = Callable[[Tensor], tuple[Tensor, ...]]
Mass = Callable[[], Tensor]


def per_image_dot(a: Tensor, b: Tensor) -> Tensor:
    """``sum a * b`` over all but the first two dimensions of a (K, N, ...), b (N, ...): (K, N, 1, ...).

    In the order in which the tensor lies in memory, so that nothing is copied on the way.
    """
    shape = (*a.shape[:2], *[1] * (a.dim() - 2))
    if a.dim() == 5 and a.stride(2) == 1:
        a, b = a.movedim(2, -1), b.movedim(1, -1)
    return torch.linalg.vecdot(a.flatten(2), b.flatten(1)).view(shape)


def absolute(h: Tensor) -> Tensor:
    """``|h|``, and ``EPSILON`` where h is 0."""
    return F.threshold_(h.abs(), 1e-30, EPSILON)


class Law(ABC):
    """What becomes of sums when relevance passes an operation."""

    @abstractmethod
    def denominator(self, h: Tensor) -> Tensor:
        """``|h|``, stabilised, as a new tensor."""

    @abstractmethod
    def distribute(self, relevance: Tensor, denominator: Tensor | None, mass: Mass | None, spread: Spread) -> tuple:
        """Relevance (K, N, ...) of an operation's output to that of its inputs.

        Args:
            relevance: (K, N, ...), never changed.
            denominator: (N, ...); None for an operation that only moves values.
            mass: gives sum of absolute contributions of each output, (N, ...): what one unit of ``relevance /
                denominator`` spreads. None for an operation that keeps the sum of either sign by itself.
            spread: linear map from ``relevance / denominator``, which it may overwrite unless ``denominator`` is None,
                to the relevance of each input, in new tensors.
        """

    def scale(self, relevance: Tensor, ratio: Tensor) -> Tensor:
        """The same of an operation that gives every entry ``ratio >= 0`` (N, ...) of its own relevance."""
        return self.distribute(relevance, torch.ones_like(ratio), lambda: ratio, lambda s: (s * ratio,))[0]


class Unrestored(Law):
    def denominator(self, h: Tensor) -> Tensor:
        return h.abs().add_(EPSILON)

    def distribute(self, relevance: Tensor, denominator: Tensor | None, mass: Mass | None, spread: Spread) -> tuple:
        return spread(relevance if denominator is None else relevance / denominator)


class SignWise(Law):
    def denominator(self, h: Tensor) -> Tensor:
        return absolute(h)

    def distribute(self, relevance: Tensor, denominator: Tensor | None, mass: Mass | None, spread: Spread) -> tuple:
        if denominator is None:
            return spread(relevance)
        scaled = relevance / denominator if mass is None else self._scaled(relevance, denominator, mass)
        del denominator  # the transposed product is where memory peaks
        return spread(scaled)

    @staticmethod
    def _scaled(relevance: Tensor, denominator: Tensor, mass: Mass) -> Tensor:
        """``R / |h|`` with the factor of either sign. ``denominator`` is consumed."""
        above, below, positive = _sums(relevance)
        z = mass()
        negative = quotient(relevance, denominator)
        negative.sub_(torch.clamp(negative, min=0, out=positive))
        up = above / (per_image_dot(positive, z) + SUM_EPSILON)
        down = below / (per_image_dot(negative, z) - SUM_EPSILON)
        return positive.mul_(up).addcmul_(negative, down)

    def scale(self, relevance: Tensor, ratio: Tensor) -> Tensor:
        above, below, positive = _sums(relevance)
        negative = relevance * ratio
        negative.sub_(torch.clamp(negative, min=0, out=positive))
        up = above / (per_image_sum(positive) + SUM_EPSILON)
        down = below / (per_image_sum(negative) - SUM_EPSILON)
        return positive.mul_(up).addcmul_(negative, down)


def _sums(relevance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of the positive and of the negative relevance, and the memory of its shape that they took."""
    part = relevance.clamp(min=0)
    above = per_image_sum(part)
    return above, per_image_sum(torch.sub(relevance, part, out=part)), part


@dataclass(frozen=True)
class OneSign(Law):
    """For relevance that is nowhere negative.

    ``pairs``: the first half of the starts may have any sign and takes the factors of the second half, which has one.
    On a chain of operations the factors of a start are one number in the end, so that combinations of the two stay
    combinations.
    """

    pairs: bool = False

    def denominator(self, h: Tensor) -> Tensor:
        return absolute(h)

    def distribute(self, relevance: Tensor, denominator: Tensor | None, mass: Mass | None, spread: Spread) -> tuple:
        if denominator is None:
            return spread(relevance)
        parts = spread(relevance / denominator)
        if mass is None:
            return parts
        after = sum(per_image_sum(part).flatten(2) for part in parts)
        factor = per_image_sum(relevance).flatten(2) / (after + SUM_EPSILON)
        if self.pairs:
            factor = factor[len(factor) // 2 :].repeat(2, 1, 1)
        return tuple(part.mul_(factor.view(*factor.shape[:2], *[1] * (part.dim() - 2))) for part in parts)


class UnitSum(Law):
    def denominator(self, h: Tensor) -> Tensor:
        return h.abs().add_(EPSILON)

    def distribute(self, relevance: Tensor, denominator: Tensor | None, mass: Mass | None, spread: Spread) -> tuple:
        parts = spread(relevance if denominator is None else relevance / denominator)
        return tuple(unit_sum(part) for part in parts)


def unit_sum(relevance: Tensor) -> Tensor:
    """Relevance (K, N, ...) of each image over its absolute sum."""
    dims = tuple(range(2, relevance.dim()))
    # A sum adds in pairs; the 1-norm of torch does not, and is wrong from the fifth digit on in float32.
    return relevance / (relevance.abs().sum(dims, keepdim=True) + EPSILON)


@dataclass(frozen=True)
class AbsRule(Rule):
    """Eq. 12 for one kind of operation, under a law.

    ``signed`` says of each input whether it may be negative, ``carries`` whether it depends on the image.
    """

    law: Law
    signed: tuple[bool, ...] = field(default=(), kw_only=True)
    carries: tuple[bool, ...] = field(default=(), kw_only=True)

    needs_inputs = True
    needs_output = True

    def at(self, graph: Graph, operation: Operation) -> AbsRule:
        non_negative, carriers = graph.non_negative(), graph.carriers()
        return replace(
            self,
            signed=tuple(name not in non_negative for name in operation.inputs),
            carries=tuple(name in carriers for name in operation.inputs),
        )


@dataclass(frozen=True)
class AbsLayer(AbsRule):
    """A convolution or linear layer; ``bias``: whether the denominator has it.

    With inputs of either sign ``z = (|W| |x| + W x) / 2``, where ``W x`` is known: one product.
    """

    bias: bool = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine, h = record.inputs, record.operation.affine, record.output
        positive = affine.weights("positive")

        def without_bias() -> Tensor:
            return h if affine.bias is None else affine.add_bias(h, -affine.bias)

        def mass() -> Tensor:
            if not self.signed[0]:
                return affine.apply(x, positive)
            absolute_weight = positive - affine.weights("negative")
            return affine.apply(x.abs(), absolute_weight).add_(without_bias()).clamp_(min=0).mul_(0.5)

        def spread(s: Tensor) -> tuple[Tensor, ...]:
            part = affine.transpose(s, positive, x.shape)
            if not self.signed[0]:
                return (part.mul_(x),)
            other = affine.transpose(s, affine.weights("negative"), x.shape)
            return (part.mul_(x.clamp(min=0)).addcmul_(other, x.clamp(max=0)),)

        return self.law.distribute(relevance, self.law.denominator(h if self.bias else without_bias()), mass, spread)


@dataclass(frozen=True)
class AbsMove(AbsRule):
    """An operation that only moves, selects or scales values: those that are positive keep relevance, others lose it.

    Rearrangements, concatenation and maximum pooling (which selects the winner); ``back`` moves relevance the other
    way. Values from outside the image (a class token) take none.
    """

    back: Rule

    @property
    def needs_inputs(self) -> bool:
        return self.back.needs_inputs

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        if not any(self.signed) and all(self.carries):
            return self.law.distribute(relevance, None, None, lambda s: self.back(record, s))
        h = record.output
        kept = h.clamp(min=0)
        if not all(self.carries):
            dim = record.operation.settings["dim"]
            for part, carries in zip(kept.split([s[dim] for s in record.shapes], dim), self.carries, strict=True):
                if not carries:
                    part.zero_()
        return self.law.distribute(
            relevance, self.law.denominator(h), lambda: kept, lambda s: self.back(record, s.mul_(kept))
        )


class ActiveOnly(Rule):
    """ReLU: relevance passes where the unit is active."""

    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return (torch.ops.aten.threshold_backward(relevance, record.output.expand_as(relevance), 0),)


class AbsSum(AbsRule):
    """Additions and averages: linear with weights that are not negative, so positive inputs share."""

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        run, h = record.operation.run, record.output
        positive = [x.clamp(min=0) if signed else x for x, signed in zip(record.inputs, self.signed, strict=True)]
        direct = record.operation.kind == "add"

        def spread(s: Tensor) -> tuple[Tensor, ...]:
            if not direct:
                return tuple(back.mul_(x) for x, back in zip(positive, pull_back(run, s, record.shapes), strict=True))
            *others, last = positive
            parts = (*[s * x for x in others], s.mul_(last))
            carrying = zip(parts, positive, self.carries, strict=True)
            return tuple(_reduced(part, x) if carries else part for part, x, carries in carrying)

        mass = (lambda: run(*positive)) if any(self.signed) else None
        return self.law.distribute(relevance, self.law.denominator(h), mass, spread)


def _reduced(part: Tensor, x: Tensor) -> Tensor:
    """Relevance (K, N, ...) of an input (N, ...) that was broadcast, summed over its copies."""
    return part if part.shape[1:] == x.shape else part.sum_to_size(part.shape[0], *x.shape)


@dataclass(frozen=True)
class AbsPointwise(AbsRule, ABC):
    """An operation that acts on every entry by itself, its statistics taken as constants.

    ``r = m c`` with a factor ``m`` (N, ...) of either sign: where it is negative, relevance changes its sign.
    """

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        factor, denominator = self.factor(record), self.law.denominator(record.output)
        return self.law.distribute(relevance, denominator, lambda: factor.abs(), lambda s: (s.mul_(factor),))

    @abstractmethod
    def factor(self, record: Record) -> Tensor:
        """``x dh/dx`` where this is a positive contribution (N, ...)."""


class AbsBatchNorm(AbsRule):
    r"""Batch norm as two operations, :math:`h_1 = (x - \mu) / s` and :math:`h_2 = g h_1 + b`.

    .. math::
        R_i = \frac{x_i^+}{s\,|h_{1,i}|} \frac{(g h_{1,i})^+}{|h_{2,i}|} R_i'
            = \frac{x_i^+ |g|}{s} [g h_{1,i} > 0] \frac{R_i'}{|h_{2,i}|}

    Neither mixes entries, so their sums can be restored together.
    """

    needs_output = False

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), settings = record.inputs, record.operation.settings
        gain, std = settings["gain"], settings["std"]
        scaled, slope = x - per_channel(settings["mean"], x), 1 / std
        if gain is not None:
            scaled, slope = scaled.mul_(per_channel(gain, x)), gain.abs() / std
        numerator = where_positive(x.clamp(min=0).mul_(per_channel(slope, x)), scaled)
        return (self.law.scale(relevance, numerator.div_(self.law.denominator(record.operation.run(x)))),)


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))
