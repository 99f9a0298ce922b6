r"""Relative Attributing Propagation (Nam et al. 2020), and its authors' conventions for LRP.

The start is the magnitude of the target's logit: the class layer spreads it by absolute contributions, every other
layer by the rule of ``propagation.rules.rap``. Additions and average pools share by the signed inputs, batch norms pass
relevance on where their input is not 0, the first layer takes z^B.

The authors start from the logit itself, ``start="logit"``. A negative one turns relevance round, and the rule treats
the two signs differently, so that their map of such a class is another one and not only ours turned round.
"""

from __future__ import annotations

from relmap.explainers.base import Relevance
from relmap.network import Graph, Operation
from relmap.network.affine import Convolution
from relmap.propagation import Composite, Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta, Bounds, Rule, Share, ZBox
from relmap.propagation.rules.precision import InDouble
from relmap.propagation.rules.rap import (
    AbsoluteShare,
    PassNonZero,
    RelativeAttributing,
    WidenedNorm,
    WidenedShare,
    WidenedWinner,
)


def is_pointwise(graph: Graph, operation: Operation) -> bool:
    """Whether this is a convolution of single pixels, 1 x 1."""
    return isinstance(operation.affine, Convolution) and set(operation.affine.kernel) == {1}


def relative_attributing(first: Rule) -> Composite:
    """RAP; ``first`` is the rule of the layers that see the input."""
    kinds = {
        "conv": RelativeAttributing(),
        "linear": RelativeAttributing("positive"),
        "batch_norm": PassNonZero(),
        "average_pool": Share("signed"),
        "add": Share("signed"),
    }
    places = ((composites.is_class_layer, InDouble(AbsoluteShare())),)
    return Composite(composites.STRUCTURE | kinds, first, places, fold_batch_norm=False, bias=False)


def relative_attributing_of_agf(first: Rule, epsilon: float = 1e-9) -> Composite:
    """RAP as AGF's authors copied it.

    The class layer is a linear layer like the others, 1 x 1 convolutions share by absolute contributions without a
    shift, and ``epsilon`` is added to denominators.
    """
    kinds = {
        "conv": RelativeAttributing(epsilon=epsilon),
        "linear": RelativeAttributing("positive", epsilon),
        "batch_norm": WidenedNorm(epsilon),
        "average_pool": WidenedShare(epsilon),
        "add": WidenedShare(epsilon),
        "max_pool": WidenedWinner(epsilon),
    }
    places = ((is_pointwise, AbsoluteShare(epsilon)),)
    return Composite(composites.STRUCTURE | kinds, first, places, fold_batch_norm=False, bias=False)


def alpha_beta_of_rap(alpha: float, beta: float, first: Rule) -> Composite:
    """LRP-alpha-beta in the code of RAP's authors: no bias, additions by signed shares, batch norms of their own."""
    rule = AlphaBeta(alpha, beta)
    kinds = {
        "conv": rule,
        "linear": rule,
        "batch_norm": WidenedNorm(),
        "average_pool": Share("signed"),
        "add": Share("signed"),
    }
    return Composite(composites.STRUCTURE | kinds, first, fold_batch_norm=False, bias=False)


class RelativeAttributingPropagation(Relevance):
    """RAP.

    Args:
        propagator: of the model.
        low, high: bounds of the input, per channel or one; None takes each image's own extremes, like the authors.
        start: key of ``starts.STARTS``; None for the logit's magnitude. The authors' is ``logit``.
    """

    def __init__(
        self, propagator: Propagator, *, low: Bounds = None, high: Bounds = None, start: str | None = None
    ) -> None:
        super().__init__(propagator, relative_attributing(ZBox(low, high)), start)


class ContrastiveRAP(Relevance):
    """RAP from 1 at the target and -1/C at the other classes, in one pass (absLRP's comparison, after Gu et al. 2019).

    The class layer spreads each class's start by that class's absolute contributions: for RAP's start, the logit at
    the target alone, this is RAP's own first step.
    """

    def __init__(self, propagator: Propagator, *, low: Bounds = None, high: Bounds = None) -> None:
        super().__init__(propagator, relative_attributing(ZBox(low, high)), starts.contrast)


class RAPLogitInit(Relevance):
    """RAP as AGF's authors copied it: ``relative_attributing_of_agf``; arguments as of RAP."""

    def __init__(
        self, propagator: Propagator, *, low: Bounds = None, high: Bounds = None, start: str | None = None
    ) -> None:
        super().__init__(propagator, relative_attributing_of_agf(ZBox(low, high)), start)


class AlphaBetaOfRAP(Relevance):
    """LRP-alpha-beta in the code of RAP's authors: ``alpha_beta_of_rap``; ``low``, ``high``, ``start`` as of RAP."""

    def __init__(
        self,
        propagator: Propagator,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        low: Bounds = None,
        high: Bounds = None,
        start: str | None = None,
    ) -> None:
        super().__init__(propagator, alpha_beta_of_rap(alpha, beta, ZBox(low, high)), start)
