r"""C3-LRP's propagation (Otsuki et al. 2024) and the one that its group released later.

``C3LRP``: every convolution, batch norm, pool and residual block is one operation of Eq. 1,
:math:`R = z * J^T (R' / (z' + \epsilon))`, and linear layers follow Eq. 2 (``relmap.propagation.rules.blocks``). As
epsilon goes to 0 all divisions cancel the multiplications before them, and what is left is

.. math:: R = \frac{x * \nabla_x z_t}{z_t - b_t} R_t

gradient times input up to a scale per image, with :math:`b_t` the bias of the last layer. The paper gives no
:math:`R_t`: ours is :math:`z_t - b_t`, for which the map is gradient times input itself. From :math:`z_t` it would
turn round where the bias alone gives the logit its sign.

``ReleasedC3LRP``: keio-smilab24/LRP-for-ResNet, z+ layer by layer with relevance split at the skip connections
(``relmap.propagation.rules.released``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relmap.errors import InputError
from relmap.explainers.base import Relevance
from relmap.network import Graph, Operation
from relmap.propagation import Composite, Propagator, composites
from relmap.propagation.rules import Pass, Rule
from relmap.propagation.rules.blocks import Block, BlockPart, residual_blocks
from relmap.propagation.rules.precision import InDouble
from relmap.propagation.rules.released import AverageShare, ReleasedPlus, SkipMode, SkipShare

# What passes relevance on outside blocks: functions of one value. The rearrangements beside them keep their own rule.
_PASSING = frozenset({"relu", "gelu", "activation", "scale", "log_softmax"})
_REARRANGING = frozenset({"identity", "reshape", "concatenate", "embedding"})


@dataclass(frozen=True)
class BlockComposite(Composite):
    """Eq. 1 and 2 over a composite of gradients: each block divides by its output and multiplies by its input.

    Attributes:
        passing: kinds that pass relevance on unchanged outside blocks.
        epsilon, signed: the stabiliser.
    """

    passing: frozenset[str] = _PASSING
    epsilon: float = 1e-5
    signed: bool = True

    def rules(self, graph: Graph) -> dict[str, Rule]:
        block_of = {name: block for block in residual_blocks(graph) for name in block.members}
        return {
            name: self._inside(gradient, graph[name], block_of[name])
            if name in block_of
            else self._alone(gradient, graph, graph[name])
            for name, gradient in super().rules(graph).items()
        }

    def _inside(self, gradient: Rule, operation: Operation, block: Block) -> Rule:
        enters, leaves = tuple(name == block.source for name in operation.inputs), operation.name == block.sink
        return BlockPart(gradient, enters, leaves, self.epsilon, self.signed) if leaves or any(enters) else gradient

    def _alone(self, gradient: Rule, graph: Graph, operation: Operation) -> Rule:
        if operation.kind in _REARRANGING or graph.adds_constant(operation):
            return gradient
        if operation.kind in self.passing:
            return Pass()
        enters = (True,) * len(operation.inputs)
        rule = BlockPart(gradient, enters, True, self.epsilon, self.signed, bias=operation.kind != "linear")
        return InDouble(rule).at(graph, operation) if self._divides_alone(graph, operation) else rule

    def _divides_alone(self, graph: Graph, operation: Operation) -> bool:
        """Whether no multiplication cancels a layer's division by its output, as its batch norm passes relevance on.

        Outputs near 0 then dominate the map, and of them float32 keeps few digits.
        """
        followers = [consumer.kind for consumer in graph.consumers(operation.name)]
        return operation.affine is not None and "batch_norm" in followers and "batch_norm" in self.passing


def c3(
    epsilon: float = 1e-5,
    signed: bool = True,
    relu: Literal["pass", "equation_1"] = "pass",
    batch_norm: Literal["pass", "equation_1"] = "equation_1",
) -> BlockComposite:
    """C3-LRP; ``relu`` and ``batch_norm`` outside blocks pass relevance on or follow Eq. 1 too."""
    for name, choice in (("relu", relu), ("batch_norm", batch_norm)):
        if choice not in ("pass", "equation_1"):
            raise InputError(f"{name} {choice!r} is unknown; choose pass or equation_1")
    gradients = composites.gradient()
    passing = _PASSING - {"relu"} if relu == "equation_1" else _PASSING
    passing = passing | {"batch_norm"} if batch_norm == "pass" else passing
    return BlockComposite(gradients.kinds, fold_batch_norm=False, passing=passing, epsilon=epsilon, signed=signed)


def released(mode: SkipMode = "flows_skip") -> Composite:
    """The successor's propagation; ``mode`` is ``SkipShare``'s."""
    modes = ("flows_skip", "simple", "flows_skip_simple", "latest")
    if mode not in modes:
        raise InputError(f"mode {mode!r} is unknown; choose one of {', '.join(modes)}")
    convolution, linear, average = ReleasedPlus(1, 1e-5), ReleasedPlus(0, 1e-5), AverageShare(1e-5)
    kinds = {"conv": convolution, "linear": linear, "max_pool": average, "average_pool": average}
    kinds |= {"batch_norm": Pass(), "add": SkipShare(mode)}
    first = ReleasedPlus(1, 1e-5, values="ones")
    composite = Composite(composites.STRUCTURE | kinds, first, fold_batch_norm=False, bias=False)
    # A class layer is linear in their networks; as a convolution its bias could turn the map round.
    return composites.with_class_layer(composite, linear)


class C3LRP(Relevance):
    """C3-LRP before its contour step.

    Args:
        propagator: of the model.
        epsilon: of every denominator.
        signed: whether epsilon takes the denominator's sign; as printed it does not.
        relu, batch_norm: ``pass`` or ``equation_1``, for those outside blocks.
        start: key of ``starts.STARTS``; None for the logit without the last layer's bias.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        epsilon: float = 1e-5,
        signed: bool = True,
        relu: Literal["pass", "equation_1"] = "pass",
        batch_norm: Literal["pass", "equation_1"] = "equation_1",
        start: str | None = None,
    ) -> None:
        super().__init__(propagator, c3(epsilon, signed, relu, batch_norm), start)


class ReleasedC3LRP(Relevance):
    """The successor's propagation.

    Args:
        propagator: of the model.
        mode: how additions split relevance, see ``SkipShare``.
        start: key of ``starts.STARTS``; the authors start from the top class's probability.
    """

    def __init__(self, propagator: Propagator, *, mode: SkipMode = "flows_skip", start: str = "probability") -> None:
        super().__init__(propagator, released(mode), start)
