r"""What absLRP's authors changed in their later public code, as far as it is a rule.

.. math:: R_i = \frac{x_i}{2} \frac{\partial (h_a + h)}{\partial x_i} \frac{R'}{|h|}, \qquad R \leftarrow R / \sum |R|

After every operation relevance has absolute sum 1 (``UnitSum``), at an addition for each input by itself: branches
count the same. ``h_a`` is the operation itself on ``|x|``, with its own statistics. Left out on purpose: the gradient
of a block's branch that leaks into the relevance of its shortcut, dropout as an operation, and batches mixed in the
position embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.propagation.rules.abslrp import AbsPointwise, per_channel
from relmap.propagation.rules.abslrp_attention import slope
from relmap.propagation.rules.base import Record, Rule
from relmap.propagation.rules.structure import Winner


class NormalisedBatchNorm(AbsPointwise):
    r"""One operation, its mean in h alone: :math:`R_i = (x_i g)^+ / s \cdot R_i' / |h_i|`."""

    needs_output = True

    def factor(self, record: Record) -> Tensor:
        (x,) = record.inputs
        return (x * per_channel(record.operation.affine.weight, x)).clamp_(min=0)


class NormalisedActivation(AbsPointwise):
    def factor(self, record: Record) -> Tensor:
        (x,) = record.inputs
        return (x.abs() * slope(record, x.abs()) + x * slope(record, x)) / 2


class NormalisedLayerNorm(AbsPointwise):
    def factor(self, record: Record) -> Tensor:
        (x,), parts = record.inputs, record.operation.settings["parts"]
        (_, own, gain), (_, of_absolute, other_gain) = parts(x), parts(x.abs())
        if gain is None:
            return (x / own + x.abs() / of_absolute) / 2
        return (x * gain / own + x.abs() * other_gain.abs() / of_absolute) / 2


class NormalisedSoftmax(AbsPointwise):
    def factor(self, record: Record) -> Tensor:
        (x,), hidden, dim = record.inputs, record.output == 0, record.operation.settings["dim"]
        of_absolute = x.abs().masked_fill(hidden, -torch.inf).softmax(dim)
        x = x.masked_fill(hidden, 0)
        return (x * record.output + x.abs() * of_absolute) / 2


class WinnerTimesActivation(Rule):
    """Maximum pooling of VGG in that code: the winner's relevance times its activation, without the division."""

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (won,) = Winner()(record, relevance)
        return (won * record.inputs[0],)
