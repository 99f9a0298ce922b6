r"""The gradient as a rule, and its two famous alterations at ReLUs.

.. math::
    \text{gradient: } R_i = \sum_j \frac{\partial z_j}{\partial x_i} R_j, \qquad
    \text{ReLU: } R_i = [x_i > 0] R_i, \quad
    \text{DeconvNet (Zeiler and Fergus 2014): } R_i = R_i^+, \quad
    \text{guided (Springenberg et al. 2014): } R_i = [x_i > 0] R_i^+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, jacobian_at, pull_back, where_positive

LINEAR = frozenset({"conv", "linear", "batch_norm", "average_pool", "add", "scale"})


class Gradient(Rule):
    """The transposed Jacobian of an operation that is linear in its inputs; of any other, ``LocalGradient``."""

    def at(self, graph: Graph, operation: Operation) -> Rule:
        return self if operation.kind in LINEAR else LocalGradient()

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        operation = record.operation
        if operation.affine is not None:
            return (operation.affine.transpose(relevance, operation.affine.weights("own"), record.shapes[0]),)
        if operation.kind == "add" and all(shape == relevance.shape[1:] for shape in record.shapes):
            return tuple(relevance for _ in record.shapes)
        if operation.kind == "scale":  # its factor may be of each image
            return jacobian_at(operation.run, relevance, [relevance.new_zeros(shape) for shape in record.shapes])
        return pull_back(operation.run, relevance, record.shapes)


class LocalGradient(Rule):
    """The transposed Jacobian at the operation's inputs: softmax, layer norm, products, smooth activations."""

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        return jacobian_at(record.operation.run, relevance, record.inputs)


@dataclass(frozen=True)
class ReluGradient(Rule):
    mode: Literal["gradient", "deconvnet", "guided"] = "gradient"

    needs_output = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        if self.mode != "gradient":
            relevance = relevance.clamp(min=0)
        if self.mode != "deconvnet":
            relevance = where_positive(relevance, record.output)
        return (relevance,)
