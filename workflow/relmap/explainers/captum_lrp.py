r"""LRP with captum's default rules (captum 0.9, ``captum.attr.LRP``): epsilon 1e-9 in every layer, from the logit.

.. math:: R_i = x_i \sum_j w_{ij} \frac{R_j}{z_j + \epsilon\,\mathrm{sign}(z_j)}, \qquad \epsilon = 10^{-9}

in convolutions, linear layers, batch norms (a layer of their own, with their bias) and pools; ReLUs pass. With so small
an epsilon this is Input x Gradient, as it is in every network whose sums are modules of captum's own
(``Addition_Module``), which share by their inputs.

**Sums that are written ``a + b``**, as torchvision's ResNets have them, captum does not see. It multiplies the
gradient that arrives at a layer's input x by x, all of it: that of the layer, which is a quotient by the layer's
output, and that of the sum, which is the sum's relevance and no quotient:

.. math:: R_x = x \Big( \sum_j w_{ij} \frac{R_j}{z_j} + R_{x+F(x)} \Big), \qquad R_{F(x)} = R_{x+F(x)}

So relevance is copied into both branches, and multiplied by the activation at each skip connection: on the reference
network of 16 blocks it grows to 1e16, and the map is noise. That is what a paper shows that runs captum's LRP on such a
network, and what ``sums="copied"`` is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Relevance
from relmap.network.graph import Graph, Operation
from relmap.propagation import Propagator, composites, starts
from relmap.propagation.rules import Epsilon, Share, Winner
from relmap.propagation.rules.base import Record, Rule, stabilised

EPSILON = 1e-9
LAYERS = frozenset({"conv", "linear", "batch_norm", "max_pool", "average_pool"})
"""Kinds at whose inputs captum multiplies by the input."""


@dataclass(frozen=True)
class CopiedSum(Rule):
    """All relevance to every input, times the input where a layer reads it too. ``read`` says of which that holds."""

    read: tuple[bool, ...] = ()

    @property
    def needs_inputs(self) -> bool:
        return any(self.read)

    def at(self, graph: Graph, operation: Operation) -> CopiedSum:
        return CopiedSum(tuple(any(user.kind in LAYERS for user in graph.consumers(name)) for name in operation.inputs))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            (relevance * x if read else relevance).sum_to_size(len(relevance), *shape)
            for x, read, shape in zip(record.inputs, self.read, record.shapes, strict=True)
        )


class StabilisedWinner(Winner):
    """A maximum pool as captum's epsilon rule has it: the winner's share is ``z / (z + epsilon sign(z))``."""

    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return super().__call__(record, relevance * record.output / stabilised(record.output, EPSILON))


class CaptumLRP(Relevance):
    """captum's LRP.

    Args:
        propagator: of the model.
        sums: ``copied``, as captum treats sums that are not its modules; or ``shared``, as it treats those that are.
    """

    def __init__(self, propagator: Propagator, *, sums: Literal["copied", "shared"] = "copied") -> None:
        rules = {"copied": CopiedSum(), "shared": Share("signed", EPSILON)}
        if sums not in rules:
            raise InputError(f"sums {sums!r} is unknown; choose one of {', '.join(rules)}")
        whole = composites.epsilon(EPSILON)
        kinds = {**whole.kinds, "batch_norm": Epsilon(EPSILON), "max_pool": StabilisedWinner(), "add": rules[sums]}
        super().__init__(propagator, replace(whole, kinds=kinds, fold_batch_norm=False), starts.logit)
