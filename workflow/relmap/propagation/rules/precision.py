r"""A rule in float64 inside a float32 pass, where relevance of both signs cancels.

A contrastive start has a total of about 0, and so has its relevance at every layer. Next to the logits the parts are
large and their difference is small: in float32 the rounding of the parts leaves a false total, which all rules of z+'s
kind carry down to the input as if it were relevance. The last layers are few and small, so they can be exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relmap.network.affine import Affine
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.alpha_beta import AlphaBeta
from relmap.propagation.rules.base import Record, Rule, divide


@dataclass(frozen=True)
class InDouble(Rule):
    """``rule`` with inputs, weights and relevance in float64; the result has the network's type.

    ``operation`` is the operation with its weights in float64, made once for each place.
    """

    rule: Rule
    operation: Operation | None = None

    @property
    def needs_inputs(self) -> bool:
        return self.rule.needs_inputs

    @property
    def needs_output(self) -> bool:
        return self.rule.needs_output

    def at(self, graph: Graph, operation: Operation) -> InDouble:
        affine = operation.affine
        if affine is not None and affine.weight.dtype != torch.float64:
            bias = None if affine.bias is None else affine.bias.double()
            affine = replace(affine, weight=affine.weight.double(), bias=bias, _derived={})
            operation = replace(operation, affine=affine, run=affine.forward)
        return InDouble(self.rule.at(graph, operation), operation)

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        inputs = tuple(None if x is None else x.double() for x in record.inputs)
        output = None if record.output is None else record.output.double()
        exact = replace(record, operation=self.operation, inputs=inputs, output=output)
        network = next(value.dtype for value in (*record.inputs, record.output) if value is not None)
        return tuple(part.to(network) for part in self.rule(exact, relevance.double()))


@dataclass(frozen=True)
class TotalKept(AlphaBeta):
    """Alpha-beta without bias whose totals hold to the last digit, which its equation promises and float32 does not.

    The sum of what comes out is brought to the sum of what came in (without what outputs of 0 keep), both in float64,
    in proportion to its absolute values: a change of the order of the rounding.
    """

    def _share(
        self,
        factor: float,
        affine: Affine,
        pairs: list[tuple[Tensor, str]],
        z: Tensor,
        relevance: Tensor,
        shape: torch.Size,
    ) -> Tensor:
        def total(values: Tensor) -> Tensor:
            return values.sum(tuple(range(2, values.dim())), keepdim=True, dtype=torch.float64)

        # Pairs begin with the weights that raise or that lower positive inputs; the negative part comes negated.
        sign = 1 if pairs[0][1] == "positive" else -1
        due = sign * factor * total(relevance.masked_fill(z <= 0, 0))
        result = super()._share(factor, affine, pairs, z, relevance, shape)
        magnitude = result.abs()
        excess = total(result) - due.view(*due.shape[:2], *[1] * (result.dim() - 2))
        return result.sub_(magnitude.mul_(divide(excess, total(magnitude)).to(result.dtype)))


@dataclass(frozen=True)
class Difference(Rule):
    """What one rule gives less what another gives for the same relevance."""

    rule: Rule
    against: Rule

    @property
    def needs_inputs(self) -> bool:
        return self.rule.needs_inputs or self.against.needs_inputs

    @property
    def needs_output(self) -> bool:
        return self.rule.needs_output or self.against.needs_output

    def at(self, graph: Graph, operation: Operation) -> Difference:
        return Difference(self.rule.at(graph, operation), self.against.at(graph, operation))

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        parts = zip(self.rule(record, relevance), self.against(record, relevance), strict=True)
        return tuple(a - b for a, b in parts)
