r"""z+ and its companions as some authors' released code has them, where that is not what their papers print.

.. math::
    R_i = x_i \sum_j \frac{w_{ij}^+ R_j}{z_j}, \quad z_j = \sum_i w_{ij}^+ x_i + n\,b_j + \epsilon

In vector-Jacobian form ``x * W+^T (R / z)``. The bias is not clamped, and epsilon has no sign:

- keio-smilab24/LRP-for-ResNet (C3-LRP's successor): ``n = 1`` in convolutions, 0 in linear layers, epsilon 1e-5, ones
  in place of the image; averages of 2 x 2 in place of maximum pools; a block's relevance split by ``SkipShare``.
- mongeoroo/Relevance-CAM: ``n = 2`` in convolutions, as each of the two signs of the input, ``(x+, W+)`` and
  ``(x-, W-)``, adds it once; 0 in linear layers; epsilon 1e-9.
- facebookresearch/TorchRay (excitation backpropagation): ``n = 0``, epsilon 1e-20, whatever the input's sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, divide, pull_back, total, with_total
from relmap.propagation.rules.blocks import branches

SkipMode = Literal["flows_skip", "simple", "flows_skip_simple", "latest"]


def _quotient(relevance: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """``R / (z + epsilon)``, 0 where nothing at all arrives."""
    return relevance / torch.where(z == 0, torch.inf, z + epsilon)


@dataclass(frozen=True)
class ReleasedPlus(Rule):
    """z+ with ``biases`` times the unclamped bias.

    ``values``: what stands for the input: ``own``; ``signs``, the pairs of sign that give positive products; ``ones``.
    """

    biases: float = 0.0
    epsilon: float = 0.0
    values: Literal["own", "signs", "ones"] = "own"

    @property
    def needs_inputs(self) -> bool:
        return self.values != "ones"

    @property
    def keeps_digits(self) -> bool:
        return not self.biases

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        affine, shape = record.operation.affine, record.shapes[0]
        if self.values == "ones":
            pairs = [(relevance.new_ones(1, *shape[1:]), "positive")]
        else:
            (x,) = record.inputs
            signs = [(x.clamp(min=0), "positive"), (x.clamp(max=0), "negative")]
            pairs = signs if self.values == "signs" else [(x, "positive")]
        z = torch.stack([affine.apply(x, affine.weights(name)) for x, name in pairs]).sum(0)
        if self.biases and affine.bias is not None:
            z = affine.add_bias(z, self.biases * affine.bias)
        s = _quotient(relevance, z, self.epsilon)
        to = s.to(z.dtype)
        parts = [affine.transpose(to, affine.weights(name), shape).mul_(x) for x, name in pairs]
        result = torch.stack(parts).sum(0)
        return (result if s.dtype == z.dtype else with_total(result, total(s * z)),)


@dataclass(frozen=True)
class AverageShare(Rule):
    """``x * J^T (R / (A x + epsilon))`` with A an average pool; a maximum pool counts as an average of 2 x 2.

    Where the 2 x 2 pool with stride 2 leaves one row or column out that the maximum pool has, it runs in ceil mode.
    """

    epsilon: float

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), run = record.inputs, record.operation.run
        if record.operation.kind == "max_pool":
            size = relevance.shape[-2:]
            if x.dim() != 4 or any(a not in (b // 2, -(-b // 2)) for a, b in zip(size, x.shape[-2:], strict=True)):
                raise InputError(
                    f"operation {record.operation.name!r} pools {tuple(x.shape[-2:])} to {tuple(size)}; this method "
                    "replaces maximum pools by averages of 2 x 2, which must halve the size"
                )
            ceil_mode = any(a != b // 2 for a, b in zip(size, x.shape[-2:], strict=True))

            def run(value: Tensor) -> Tensor:
                return F.avg_pool2d(value, 2, 2, ceil_mode=ceil_mode)

        (back,) = pull_back(run, _quotient(relevance, run(x), self.epsilon), record.shapes)
        return (back * x,)


@dataclass(frozen=True)
class SkipShare(Rule):
    r"""A residual addition of main branch F and skip connection S: share q to F, 1 - q to S.

    - ``flows_skip``: :math:`q = |F| / (|F| + |S|)` by element in all blocks.
    - ``simple``: 1/2 in blocks whose skip connection has a layer of its own, 1 (nothing to the skip) elsewhere.
    - ``flows_skip_simple``: 1/2 in all.
    - ``latest``: :math:`|F| / (|F| + |S|)` where the skip connection has a layer, 1 elsewhere.

    ``main``, the position of F among the inputs, and ``projects``, whether S has a layer, are learnt from the graph.
    """

    mode: SkipMode
    main: int = 0
    projects: bool = False

    def at(self, graph: Graph, operation: Operation) -> SkipShare:
        if len(operation.inputs) != 2:
            raise InputError(f"operation {operation.name!r}: a residual addition has two inputs")
        layers = [
            sum(graph[name].kind in ("conv", "linear") for name in branch) for branch in branches(graph, operation)
        ]
        main = 0 if layers[0] >= layers[1] else 1
        return replace(self, main=main, projects=layers[1 - main] > 0)

    @property
    def needs_inputs(self) -> bool:
        return self.mode == "flows_skip" or (self.mode == "latest" and self.projects)

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        if self.needs_inputs:
            f, s = record.inputs[self.main].abs(), record.inputs[1 - self.main].abs()
            to_main = relevance * divide(f, f + s)
        else:
            halves = self.mode == "flows_skip_simple" or (self.mode == "simple" and self.projects)
            to_main = relevance * (0.5 if halves else 1.0)
        parts = (to_main, relevance - to_main) if self.main == 0 else (relevance - to_main, to_main)
        return tuple(part.sum_to_size(len(part), *shape) for part, shape in zip(parts, record.shapes, strict=True))
