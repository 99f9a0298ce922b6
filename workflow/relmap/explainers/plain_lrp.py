"""LRP by one composite from a start at the logits: epsilon, gamma, alpha-beta, the presets (Bach et al. 2015).

Epsilon and gamma start from the target's logit, alpha-beta from its magnitude (``propagation.starts`` says why); the
presets by the rule that their class layer has. Contrastive methods that are linear differ from them in the start alone:
CLRP and SGLRP in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from relmap.errors import InputError, suggestion
from relmap.explainers.base import Relevance
from relmap.propagation import Composite, Propagator, composites
from relmap.propagation.rules import Bounds, Flat, Rule, ZBox
from relmap.propagation.rules.precision import InDouble


def without_bounds(what: str, low: Bounds, high: Bounds) -> None:
    """Refuse bounds where they would count for nothing."""
    if low is not None or high is not None:
        raise InputError(f"{what} takes no bounds of the input; leave out low and high")


def first_rule(kind: str, low: Bounds, high: Bounds) -> Rule | None:
    """Rule of the first layer: ``z_box``, ``flat``, or ``same`` as everywhere else (None).

    Raises:
        InputError: another kind, or bounds for one that takes none.
    """
    if kind != "z_box":
        without_bounds(f"first {kind!r}", low, high)
    match kind:
        case "z_box":
            return ZBox(low, high)
        case "flat":
            return Flat()
        case "same":
            return None
    raise InputError(f"first {kind!r} is unknown; choose z_box, flat or same")


class LRPEpsilon(Relevance):
    """LRP-epsilon everywhere; epsilon 0 is LRP-0. ``bias``: whether it counts in the denominators."""

    def __init__(
        self, propagator: Propagator, *, epsilon: float = 1e-6, bias: bool = True, start: str | None = None
    ) -> None:
        super().__init__(propagator, composites.epsilon(epsilon, bias), start)


class LRPGamma(Relevance):
    """LRP-gamma everywhere."""

    def __init__(
        self, propagator: Propagator, *, gamma: float = 0.25, bias: bool = True, start: str | None = None
    ) -> None:
        super().__init__(propagator, composites.gamma(gamma, bias), start)


def with_exact_head(composite: Composite) -> Composite:
    """Alpha-beta without bias, with the class layer in float64.

    There a contrast is the small difference of large parts, and rounding would leave a false total.
    """
    return composites.with_class_layer(composite, InDouble(composite.kinds["linear"]))


class LRPAlphaBeta(Relevance):
    """LRP-alpha-beta; the first layer takes z^B unless ``first`` says otherwise.

    Args:
        propagator: of the model.
        alpha, beta: weights of the positive and the negative part.
        bias: whether it counts in the denominators; the papers leave it out.
        first: ``z_box``, ``flat`` or ``same``.
        low, high: of z^B: the lowest and highest values that the input can take, numbers or one per channel; None
            takes each image's own extremes. Images beyond them are refused.
        batch_norm: ``fold``, ``pass`` or ``alpha_beta``, see ``composites.alpha_beta``.
        residual: which part of the inputs of an addition shares: ``positive``, ``signed`` (zennit's) or ``absolute``.
        epsilon: widens the layers' denominators; zennit's is 1e-6, with ``signed`` shares.
        start: key of ``starts.STARTS``; None for the one that makes positive relevance speak for the class.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        bias: bool = False,
        first: Literal["z_box", "flat", "same"] = "z_box",
        low: Bounds = None,
        high: Bounds = None,
        batch_norm: Literal["fold", "pass", "alpha_beta"] = "fold",
        residual: Literal["positive", "signed", "absolute"] = "positive",
        epsilon: float = 0.0,
        start: str | None = None,
    ) -> None:
        if abs(alpha - beta - 1) > 1e-6:
            raise InputError(f"alpha {alpha!r} less beta {beta!r} must be 1, or relevance is not conserved")
        layer = first_rule(first, low, high)
        composite = composites.alpha_beta(alpha, beta, bias, layer, batch_norm, residual, epsilon)
        exact = not bias and not epsilon
        super().__init__(propagator, with_exact_head(composite) if exact else composite, start)


PRESETS: dict[str, Callable[[Bounds, Bounds], Composite]] = {
    "epsilon_plus": lambda low, high: composites.epsilon_plus_flat(first_flat=False),
    "epsilon_plus_flat": lambda low, high: composites.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": lambda low, high: composites.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": lambda low, high: composites.epsilon_alpha2_beta1(first_flat=True),
    "epsilon_plus_box": composites.epsilon_plus_box,
    "epsilon_gamma_box": composites.epsilon_gamma_box,
}
BOXED = ("epsilon_plus_box", "epsilon_gamma_box")
"""Presets that take bounds of the input."""


class LRPComposite(Relevance):
    """A preset that treats convolutions, linear layers and the first layer each by a rule of its own.

    Args:
        propagator: of the model.
        preset: key of ``PRESETS``.
        low, high: of the presets in ``BOXED``, as in ``LRPAlphaBeta``.
        start: key of ``starts.STARTS``; None for the one that makes positive relevance speak for the class.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        preset: str = "epsilon_plus_flat",
        low: Bounds = None,
        high: Bounds = None,
        start: str | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise InputError(
                f"preset {preset!r} is unknown{suggestion(preset, PRESETS)}; choose one of {', '.join(PRESETS)}"
            )
        if preset not in BOXED:
            without_bounds(f"preset {preset!r}", low, high)
        super().__init__(propagator, PRESETS[preset](low, high), start)
