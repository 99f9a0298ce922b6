r"""A rule in float64 inside a float32 pass, where relevance of both signs cancels.

A contrastive start has a total of about 0, and so has its relevance at every layer. Next to the logits the parts are
large and their difference is small: in float32 the rounding of the parts leaves a false total, which all rules of z+'s
kind carry down to the input as if it were relevance. The class layer is small, so it can be exact; in the layers after
it float64 relevance keeps its total by ``base.with_total``, while the products are float32's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule


@dataclass(frozen=True)
class InDouble(Rule):
    """``rule`` with inputs, weights and relevance in float64; the result has the type of the relevance.

    ``operation`` is the operation with its weights in float64, made once for each place.
    """

    rule: Rule
    operation: Operation | None = None

    keeps_digits = True

    @property
    def signed_shares(self) -> bool:
        return self.rule.signed_shares

    @property
    def needs_inputs(self) -> bool:
        return self.rule.needs_inputs or self.rule.needs_output

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
        output = record.output
        if output is not None:  # that of an affine layer is computed again: its rounding may be all that is left of it
            output = output.double() if self.operation.affine is None else self.operation.affine.forward(*inputs)
        exact = replace(record, operation=self.operation, inputs=inputs, output=output)
        return tuple(part.to(relevance.dtype) for part in self.rule(exact, relevance.double()))


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
