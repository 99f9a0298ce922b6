r"""Attribution Equilibrium (Nam and Lee): positive and negative relevance balanced at every convolution.

Before each convolution the positive and the negative part of the relevance are scaled to the same total
:math:`\tau` (Eq. 6), per image and target: :math:`P \ge 0` and :math:`N \le 0`. With the share
:math:`J(v, V, R) = v \odot V^T (R / V v)`, the activated inputs :math:`\alpha = [x > 0]` and the others
:math:`\beta = 1 - \alpha` (Eq. 8-13):

.. math::
    R' = \underbrace{J(x, |W|, \gamma P + N)}_{C} + \underbrace{J(\alpha, |W|, P)}_{A}
       + \underbrace{J(\beta, |W|, N)}_{U} - \underbrace{\tau \alpha / {\textstyle\sum} \alpha}_{\Psi}

so that the total is :math:`(\gamma - 2) \tau`. :math:`\gamma P` and :math:`N` share a denominator and so one transposed
convolution. 1 x 1 convolutions take gamma 1 and no shift.

The paper's :math:`J` seven times is three convolutions and three transposed ones here, less one: :math:`|W| \beta` is
:math:`|W| 1 - |W| \alpha`, and :math:`|W| 1` of an image of ones needs one input channel only. The difference has the
rounding of :math:`|W| 1`: a relative error of :math:`\epsilon\, |W| 1 / |W| \beta`, which is large only for outputs
almost all of whose inputs are activated, and stays within their share of ``N``. Where no input is inactive the
difference is not 0 but a rounding remainder, so that case is found by counting inputs (small integers, exact).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.network.affine import Affine, Convolution
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, per_image_sum, pull_back, where_positive
from relmap.propagation.rules.z_box import ZBox

TOTAL = "equilibrium.total"
"""Key of the context: what P and N are scaled to, (K, N); 1 where it is absent."""


@dataclass(frozen=True)
class Terms:
    """Factors of C, A and U, and which inputs the shift is taken from. A factor of 0 leaves a term out.

    1 x 1 convolutions, whose gamma is 1, take C, A and U with factor 1 unless left out, and no shift.
    ``shift`` is the same amount for every input that it is taken from: the total over the number of activated inputs.
    """

    contribution: float = 1.0
    activated: float = 1.0
    inactivated: float = 1.0
    shift: Literal["activated", "all", "none"] = "activated"

    def of_a_pointwise_layer(self) -> Terms:
        return Terms(*(float(f != 0) for f in (self.contribution, self.activated, self.inactivated)), shift="none")


def balanced(relevance: Tensor, total: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """The positive and the negative part of relevance (K, N, ...), each scaled to ``total`` (K, N) over its image.

    A part that is 0 everywhere stays 0.
    """
    if isinstance(total, Tensor):
        total = total.view(*total.shape, *[1] * (relevance.dim() - 2))
    parts = relevance.clamp(min=0), relevance.clamp(max=0)
    sums = [per_image_sum(part).abs() for part in parts]
    positive, negative = (part.mul_(total / z.where(z != 0, torch.inf)) for part, z in zip(parts, sums, strict=True))
    return positive, negative


def _is_pointwise(affine: Affine, x: Tensor) -> bool:
    """Whether this is a 1 x 1 convolution, or a linear layer at each of several positions."""
    return set(affine.kernel) == {1} if isinstance(affine, Convolution) else x.dim() > 2


def _within_reach(affine: Affine, mask: Tensor) -> Tensor:
    """How many ones of a mask of the inputs (N, C, ...) each output is connected with: (N, channels or 1, ...)."""
    groups = affine.groups
    if not isinstance(affine, Convolution):
        return mask.sum(-1, keepdim=True)
    summed = mask.sum(1, keepdim=True) if groups == 1 else mask.unflatten(1, (groups, -1)).sum(2)
    counts = affine.apply(summed, mask.new_ones(groups, 1, *affine.kernel))
    return counts if groups == 1 else counts.repeat_interleave(affine.outputs // groups, 1)


def _unless(reached: Tensor) -> Tensor:
    """What to add to denominators, given by how many inputs each output is reached: infinity where by none.

    Elsewhere a number that changes nothing but 0 / 0, where all weights are 0.
    """
    return torch.where(reached > 0.5, 1e-30, torch.inf).to(reached.dtype)


@dataclass(frozen=True)
class Equilibrium(Rule):
    """``gamma`` in [1, 2] weighs the positive part in C. A total other than 1 comes by the context's ``TOTAL``."""

    gamma: float = 1.0
    terms: Terms = field(default_factory=Terms)
    signed_input: bool = True

    needs_inputs = True

    def at(self, graph: Graph, operation: Operation) -> Equilibrium:
        non_negative = graph.non_negative()
        return replace(self, signed_input=not all(name in non_negative for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine = record.inputs, record.operation.affine
        pointwise = _is_pointwise(affine, x)
        terms = self.terms.of_a_pointwise_layer() if pointwise else self.terms
        absolute, shape = affine.weights("absolute"), record.shapes[0]
        positive, negative = balanced(relevance, record.context.get(TOTAL, 1.0))
        active = x.sign().clamp_(min=0)
        reached = _within_reach(affine, active)

        def back(part: Tensor, z: Tensor, factor: float) -> Tensor:
            result = affine.transpose(part.div_(z), absolute, shape)
            return result if factor == 1 else result.mul_(factor)

        # Memory traffic is most of the cost of early layers: what activated inputs get and what the others get is
        # gathered apart, in place, and masked once; what is used up goes.
        on = off = x.new_zeros(())
        if terms.contribution:
            z = affine.apply(x, absolute)
            z = z.where(z != 0, torch.inf) if self.signed_input else z.add_(_unless(reached))
            on = back(torch.add(negative, positive, alpha=1.0 if pointwise else self.gamma), z, terms.contribution)
            on = on.mul_(x)
            off = on.clone() if self.signed_input else off
            del z
        z = affine.apply(active, absolute) if terms.activated or terms.inactivated else None
        if terms.inactivated:
            off = off + back(negative, self._of_others(affine, z, reached, shape), terms.inactivated)
        del negative
        if terms.activated:
            on = back(positive, z.add_(_unless(reached)), terms.activated).add_(on)
        del positive, z
        if terms.shift != "none":
            shift = 1 / active.sum(tuple(range(1, x.dim())), keepdim=True).clamp_(min=1)
            on = on.sub_(shift) if on.dim() else on - shift
            off = off - shift if terms.shift == "all" else off
        masked = where_positive(on.expand(*relevance.shape[:2], *shape[1:]), x)
        return (masked.add_(torch.addcmul(off, off, active, value=-1)),)

    @staticmethod
    def _of_others(affine: Affine, z: Tensor, reached: Tensor, shape: torch.Size) -> Tensor:
        """``|W| beta`` from ``z = |W| alpha``; infinite for outputs all of whose inputs are activated."""
        if not isinstance(affine, Convolution):
            rest = affine.weights("absolute").sum(1) - z
            return F.threshold_(rest.add_(_unless(shape[-1] - reached)), 1e-30, torch.inf)
        groups = affine.groups
        ones = z.new_ones(1, groups, *shape[2:])
        inputs = _within_reach(affine, ones.repeat_interleave(shape[1] // groups, 1))
        rest = affine.apply(ones, affine.over_inputs("absolute")) - z
        return F.threshold_(rest.add_(_unless(inputs - reached)), 1e-30, torch.inf)


@dataclass(frozen=True)
class BalancedZBox(ZBox):
    """The z^B rule on ``gamma P + N``: relevance is balanced before the first layer too."""

    gamma: float = 1.0

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        positive, negative = balanced(relevance, record.context.get(TOTAL, 1.0))
        return super().__call__(record, torch.add(negative, positive, alpha=self.gamma))


@dataclass(frozen=True)
class FlooredShare(Rule):
    """Average pooling and addition in proportion to ``max(x, 0) + floor``: inputs that are all 0 share evenly."""

    floor: float = 1e-9

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        run = record.operation.run
        contributions = [x.clamp(min=0).add_(self.floor) for x in record.inputs]
        back = pull_back(run, relevance / run(*contributions), record.shapes)
        return tuple(c * part for c, part in zip(contributions, back, strict=True))


@dataclass(frozen=True)
class MainBranch(Rule):
    """Addition of two branches: half the relevance to the main one, nothing to the other (the authors' ResNet).

    The main branch is the one with more operations behind it. The relevance that comes out at the other end of the main
    branch is to be doubled (``branch_point``).
    """

    main: int = 0

    def at(self, graph: Graph, operation: Operation) -> MainBranch:
        depths: dict[str, int] = {}
        for other in graph:
            depths[other.name] = 1 + max((depths[name] for name in other.inputs), default=0)
        carriers = graph.carriers()
        branches = [i for i, name in enumerate(operation.inputs) if name in carriers]
        return MainBranch(max(branches, key=lambda i: depths[operation.inputs[i]]))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            (relevance / 2).sum_to_size(len(relevance), *shape)
            if i == self.main
            else relevance.new_zeros(relevance.shape[:1] + shape)
            for i, shape in enumerate(record.shapes)
        )


def branch_point(graph: Graph, operation: Operation) -> str:
    """Name of the last operation on which all branches of an addition depend: where they part.

    What does not depend on the model's input is no branch.
    """
    carriers = graph.carriers()
    behind = [graph.behind(name) for name in operation.inputs if name in carriers]
    return next(other.name for other in reversed(graph.operations) if all(other.name in names for names in behind))
