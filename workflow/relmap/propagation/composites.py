"""Methods as tables: operation kind and place -> rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from relmap.errors import InputError
from relmap.propagation.graph import Graph, Operation
from relmap.propagation.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    Pass,
    ReluGradient,
    Reshape,
    Rule,
    Share,
    Split,
    Winner,
    ZBox,
)

STRUCTURE: Mapping[str, Rule] = {
    "relu": Pass(),
    "identity": Pass(),
    "max_pool": Winner(),
    "average_pool": Share("signed"),
    "add": Share("signed"),
    "concatenate": Split(),
    "reshape": Reshape(),
    "batch_norm": Epsilon(epsilon=0.0, bias=False),
}


@dataclass(frozen=True)
class Composite:
    """Which rule each operation takes.

    Attributes:
        kinds: operation kind -> rule.
        first: rule of the convolutions and linear layers that see the input; None leaves them to ``kinds``.
        fold_batch_norm: whether batch norms are folded into the convolutions before them first.
    """

    kinds: Mapping[str, Rule]
    first: Rule | None = None
    fold_batch_norm: bool = True

    def rules(self, graph: Graph) -> dict[str, Rule]:
        """Rule of each operation of a graph by name.

        Raises:
            InputError: an operation's kind has no rule here.
        """
        first = graph.first_affine() if self.first is not None else frozenset()
        non_negative = graph.non_negative()
        return {
            operation.name: self.first if operation.name in first else self._rule(operation, non_negative)
            for operation in graph
            if operation.kind != "input"
        }

    def _rule(self, operation: Operation, non_negative: frozenset[str]) -> Rule:
        rule = self.kinds.get(operation.kind)
        if rule is None:
            raise InputError(f"operation {operation.name!r}: this method has no rule for kind {operation.kind!r}")
        if isinstance(rule, AlphaBeta):
            return replace(rule, signed_input=not all(name in non_negative for name in operation.inputs))
        return rule


def epsilon(epsilon: float = 1e-6, bias: bool = True) -> Composite:
    """LRP-epsilon everywhere; average pools and additions share by the signed inputs."""
    rule = Epsilon(epsilon, bias)
    return Composite(STRUCTURE | {"conv": rule, "linear": rule})


def alpha_beta(
    alpha: float = 1.0, beta: float = 0.0, bias: bool = False, first: Rule | None = None, batch_norm: str = "fold"
) -> Composite:
    """LRP-alpha-beta everywhere; at additions the positive parts share.

    ``batch_norm``: ``fold`` into the convolution before it; ``pass`` relevance unchanged; or ``alpha_beta``, an affine
    layer of its own.
    """
    rule = AlphaBeta(alpha, beta, bias)
    norms: dict[str, Rule] = {"fold": STRUCTURE["batch_norm"], "pass": Pass(), "alpha_beta": rule}
    if batch_norm not in norms:
        raise InputError(f"batch_norm {batch_norm!r} is unknown; choose one of {', '.join(norms)}")
    kinds = {"conv": rule, "linear": rule, "add": Share("positive"), "batch_norm": norms[batch_norm]}
    return Composite(STRUCTURE | kinds, first, fold_batch_norm=batch_norm == "fold")


def gradient(relu: str = "gradient") -> Composite:
    """The gradient; ``relu`` may be ``deconvnet`` or ``guided``."""
    kinds = dict.fromkeys(("conv", "linear", "batch_norm", "average_pool", "add"), Gradient())
    return Composite(STRUCTURE | kinds | {"relu": ReluGradient(relu)}, fold_batch_norm=False)


def excitation_backprop() -> Composite:
    """Excitation backpropagation (Zhang et al. 2018): z+ without bias; signed shares at average pools and additions.

    Batch norms pass relevance on. Both are TorchRay's reading.
    """
    plus = alpha_beta(1.0, 0.0, batch_norm="pass")
    return replace(plus, kinds={**plus.kinds, "add": Share("signed")})


def epsilon_plus_flat(first_flat: bool = True) -> Composite:
    """Convolutions z+ with bias, linear layers epsilon with bias, and the flat rule for the first layer."""
    kinds = {"conv": AlphaBeta(1, 0, bias=True), "linear": Epsilon()}
    return Composite(STRUCTURE | kinds, Flat() if first_flat else None)


def epsilon_gamma_box(low: tuple[float, ...], high: tuple[float, ...], gamma: float = 0.25) -> Composite:
    """Convolutions gamma, linear layers epsilon, and the z^B rule for the first layer (Montavon et al. 2019)."""
    return Composite(STRUCTURE | {"conv": Gamma(gamma), "linear": Epsilon()}, ZBox(low, high))


def epsilon_alpha2_beta1() -> Composite:
    """Convolutions alpha 2, beta 1 with bias, linear layers epsilon with bias."""
    return Composite(STRUCTURE | {"conv": AlphaBeta(2, 1, bias=True), "linear": Epsilon()})
