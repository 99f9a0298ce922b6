"""Methods as tables: operation kind and place -> rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules import (
    AlphaBeta,
    Bounds,
    Embed,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    Halves,
    Pass,
    PassToCarriers,
    ReluGradient,
    Reshape,
    Rule,
    Share,
    SoftmaxTaylor,
    Split,
    Winner,
    ZBox,
)
from relmap.propagation.rules.structure import PARTS

STRUCTURE: Mapping[str, Rule] = {
    "relu": Pass(),
    "gelu": Pass(),
    "activation": Pass(),
    "identity": Pass(),
    "scale": Pass(),
    "max_pool": Winner(),
    "average_pool": Share("signed"),
    "add": Share("signed"),
    "concatenate": Split(),
    "reshape": Reshape(),
    "embedding": Embed(),
    "batch_norm": Epsilon(epsilon=0.0, bias=False),
    "layer_norm": Pass(),
    "matmul": Halves(),
    "multiply": Halves(),
    "softmax": SoftmaxTaylor(),
    "log_softmax": Pass(),
}
"""Rules of what has no weights of its own; those of attention are AttnLRP's (Achtibat et al. 2024)."""

LAYERS = ("conv", "linear", "batch_norm")
"""Kinds of affine layers."""

STABILISER = 1e-6


def stabilised_structure(epsilon: float = STABILISER) -> Mapping[str, Rule]:
    """``STRUCTURE`` with zennit's signed shares: sums and averages near 0 are kept off it like a layer's outputs."""
    share = Share("signed", min(epsilon, STABILISER))
    return STRUCTURE | {"average_pool": share, "add": share}


Place = Callable[[Graph, Operation], bool]


@dataclass(frozen=True)
class Composite:
    """Which rule each operation takes.

    Attributes:
        kinds: operation kind -> rule.
        first: rule of the convolutions and linear layers that see the input; None leaves them to ``kinds``. With one,
            what the model does to its input before (scaling it, adding numbers) counts as preprocessing: it passes.
        places: (predicate of graph and operation, rule), looked at before ``kinds``; the first that holds counts.
        fold_batch_norm: whether a batch norm and the convolution before it count as one affine layer.
        bias: whether what is added to the image's part without depending on it (a position embedding, 1 in ``1 + x``)
            takes a share, as a layer's bias does that counts. Otherwise all relevance stays with the image's part.
    """

    kinds: Mapping[str, Rule]
    first: Rule | None = None
    places: tuple[tuple[Place, Rule], ...] = ()
    fold_batch_norm: bool = True
    bias: bool = True

    def rules(self, graph: Graph) -> dict[str, Rule]:
        """Rule of each operation that relevance can pass, by name.

        Raises:
            InputError: an operation's kind has no rule here.
        """
        carriers = graph.carriers()
        chosen = {
            operation.name: self._rule(graph, operation)
            for operation in graph
            if operation.kind != "input" and operation.name in carriers
        }
        if self.first is not None:
            chosen |= {name: PassToCarriers() for name in graph.preprocessing() if graph[name].kind in ("add", "scale")}
            chosen |= dict.fromkeys(graph.first_affine(), self.first)
        for name in _sums_of_logits(graph, chosen):
            chosen[name] = PassToCarriers() if graph[name].kind == "add" else Gradient()
        if not self.bias:
            chosen |= {name: PassToCarriers() for name in chosen if graph.adds_constant(graph[name])}
        return {name: rule.at(graph, graph[name]) for name, rule in chosen.items()}

    def _rule(self, graph: Graph, operation: Operation) -> Rule:
        for holds, rule in self.places:
            if holds(graph, operation):
                return rule
        rule = self.kinds.get(operation.kind)
        if rule is None:
            raise InputError(
                f"operation {operation.name!r}: this method has no rule for kind {operation.kind!r}; "
                f"give its composite one (it has: {', '.join(sorted(self.kinds))})"
            )
        return rule


def _sums_of_logits(graph: Graph, chosen: Mapping[str, Rule]) -> set[str]:
    """Averages over positions of a class layer, and sums of several, of either sign, whose rule shares by no signs.

    There all positions, and all layers, share evenly. Shares by the logits would turn round, or leave nothing, with a
    number that is added to all of them.
    """
    names, non_negative = list(chosen), graph.non_negative()
    layers = [name for name in names if graph[name].kind in ("conv", "linear")]
    if not layers or chosen[layers[-1]].signed_shares:
        return set()
    behind = [graph[name] for name in names[names.index(layers[-1]) :]]
    kinds = ("average_pool", "add") if len(graph.class_layers) > 1 else ("average_pool",)
    return {
        operation.name
        for operation in behind
        if operation.kind in kinds and not non_negative.issuperset(operation.inputs)
    }


def is_class_layer(graph: Graph, operation: Operation) -> bool:
    """A ``Place``: a convolution or linear layer whose outputs are the classes."""
    return operation.name in graph.class_layers


def with_class_layer(composite: Composite, rule: Rule) -> Composite:
    """``composite`` with another rule for the class layer."""
    return replace(composite, places=((is_class_layer, rule), *composite.places))


def epsilon(epsilon: float = 1e-6, bias: bool = True) -> Composite:
    """LRP-epsilon everywhere; average pools and additions share by the signed inputs.

    A batch norm that no layer before it takes in is an affine layer of its own, with its bias.
    """
    rule = Epsilon(epsilon, bias)
    return Composite(stabilised_structure(epsilon) | dict.fromkeys(LAYERS, rule), bias=bias)


def alpha_beta(
    alpha: float = 1.0,
    beta: float = 0.0,
    bias: bool = False,
    first: Rule | None = None,
    batch_norm: str = "fold",
    residual: str = "positive",
    epsilon: float = 0.0,
) -> Composite:
    """LRP-alpha-beta everywhere; at additions the ``residual`` part of the inputs shares, see ``Share``.

    ``batch_norm``: ``fold`` into the convolution before it; ``pass`` relevance unchanged; or ``alpha_beta``, an affine
    layer of its own. ``epsilon`` widens the layers' denominators; zennit's is 1e-6, with ``signed`` shares.
    """
    rule = AlphaBeta(alpha, beta, bias, epsilon=epsilon)
    norms: dict[str, Rule] = {"fold": STRUCTURE["batch_norm"], "pass": Pass(), "alpha_beta": rule}
    if batch_norm not in norms:
        raise InputError(f"batch_norm {batch_norm!r} is unknown; choose one of {', '.join(norms)}")
    if residual not in PARTS:
        raise InputError(f"residual {residual!r} is unknown; choose one of {', '.join(PARTS)}")
    structure = stabilised_structure() if residual == "signed" else STRUCTURE | {"add": Share(residual)}
    kinds = {"conv": rule, "linear": rule, "batch_norm": norms[batch_norm]}
    return Composite(structure | kinds, first, fold_batch_norm=batch_norm == "fold", bias=bias)


def gradient(relu: str = "gradient") -> Composite:
    """The gradient; ``relu`` may be ``deconvnet`` or ``guided``."""
    kinds = dict.fromkeys((*STRUCTURE, "conv", "linear"), Gradient())
    exact = {kind: STRUCTURE[kind] for kind in ("identity", "max_pool", "concatenate", "reshape", "embedding")}
    return Composite(kinds | exact | {"relu": ReluGradient(relu)}, fold_batch_norm=False)


def excitation_backprop() -> Composite:
    """Excitation backpropagation (Zhang et al. 2018): z+ without bias; signed shares at average pools and additions.

    Batch norms pass relevance on. Both are TorchRay's reading.
    """
    plus = alpha_beta(1.0, 0.0, batch_norm="pass")
    return replace(plus, kinds={**plus.kinds, "add": Share("signed")})


def epsilon_plus_flat(first_flat: bool = True) -> Composite:
    """Convolutions z+ with bias, linear layers epsilon with bias, and the flat rule for the first layer."""
    kinds = {"conv": AlphaBeta(1, 0, bias=True, epsilon=STABILISER), "linear": Epsilon()}
    return Composite(stabilised_structure() | kinds, Flat() if first_flat else None)


def epsilon_plus_box(low: Bounds, high: Bounds) -> Composite:
    """As ``epsilon_plus_flat``, with the z^B rule for the first layer."""
    return replace(epsilon_plus_flat(first_flat=False), first=ZBox(low, high))


def epsilon_gamma_box(low: Bounds, high: Bounds, gamma: float = 0.25) -> Composite:
    """Convolutions gamma, linear layers epsilon, and the z^B rule for the first layer (Montavon et al. 2019)."""
    return Composite(stabilised_structure() | {"conv": Gamma(gamma), "linear": Epsilon()}, ZBox(low, high))


def epsilon_alpha2_beta1(first_flat: bool = False) -> Composite:
    """Convolutions alpha 2, beta 1 with bias, linear layers epsilon with bias; the flat rule first where asked."""
    kinds = {"conv": AlphaBeta(2, 1, bias=True, epsilon=STABILISER), "linear": Epsilon()}
    return Composite(stabilised_structure() | kinds, Flat() if first_flat else None)


def gamma(gamma: float = 0.25, bias: bool = True) -> Composite:
    """LRP-gamma everywhere, also in batch norms that no layer before them takes in."""
    rule = Gamma(gamma, bias=bias)
    return Composite(stabilised_structure() | dict.fromkeys(LAYERS, rule), bias=bias)
