r"""FullGrad (Srinivas and Fleuret 2019): the input's part of the logit, and that of every bias.

.. math::
    z_t(x) = \sum_i x_i \frac{\partial z_t}{\partial x_i} + \sum_l \sum_j b_{lj} \frac{\partial z_t}{\partial h_{lj}},
    \qquad R = \sum_c \psi(x * \nabla_x z_t)_c + \sum_l \sum_c U\, \psi(b_l * \nabla_{h_l} z_t)_c

with :math:`h_l = W_l\,\cdot + b_l` each affine layer. The first equation, completeness, is exact where all else is
linear piece by piece and without constants of its own: ReLU, pools, sums. The map takes the absolute value of each
term, brings it to [0, 1], :math:`\psi(a) = (|a| - \min |a|) / (\max |a| - \min |a| + 10^{-6})` over all channels and
positions of one image's layer, enlarges it bilinearly with aligned corners (U), and sums channels. Layers whose
outputs have no positions, the linear ones, count in completeness but not in the map.

The layers are the authors': a batch norm is one of its own, with the bias ``shift - gain mean / std`` that it has in
evaluation mode, and a convolution before it keeps its own bias. Were the two folded into one layer, the term of both
would stand at the batch norm's output, its bias ``gain b / std + shift - gain mean / std``: completeness is the same,
the map is not, for absolute values are taken of each layer. Constants that other operations add (a smooth activation, a
layer norm, ``1 + x``) are no biases here, as with the authors: completeness then fails by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from relmap.explainers.base import SharedPass
from relmap.propagation import Activations, Propagator, composites, starts

EPSILON = 1e-6


class FullGrad(SharedPass):
    """One backward pass for all terms; none of them is kept."""

    def __init__(self, propagator: Propagator) -> None:
        graph = propagator.graph
        self.input = graph.operations[0].name
        self.walk = propagator.by(composites.gradient())
        self.walks, self.keep = (self.walk,), (self.input,)

    def signed_activation_map(self) -> Self:
        """Its maps have no sign; wrappers finish their sum as that of activation maps."""
        return self

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        size = activations.shapes[self.input][2:]
        maps = activations.outputs[self.input].new_zeros(*targets.shape, *size)

        def add(term: Tensor) -> None:
            if term.dim() == len(size) + 3:
                maps.add_(enlarged(normalised(term).sum(2), size))

        self.each_term(activations, targets, add)
        return maps.unsqueeze(2)

    def each_term(self, activations: Activations, targets: Tensor, see: Callable[[Tensor], None]) -> None:
        """Hand over the terms (K, N, ...) of targets (K, N), the input's last; their total is z_t.

        Args:
            activations: of a forward pass that kept what ``walks`` and ``keep`` ask for.
            targets: classes, (K, N) int64.
            see: is called with each.
        """

        def watch(bias: Tensor, channels: int) -> Callable[[Tensor], Tensor]:
            def at_layer(gradient: Tensor) -> Tensor:
                # Channels lie where the layer has them, behind the dimensions of targets and images.
                shape = [1] * gradient.dim()
                shape[2 if channels else -1] = -1
                see(gradient * bias.view(shape))
                return gradient

            return at_layer

        layers = {}
        for name, step in self.walk.steps.items():
            affine = step.operation.affine
            if affine is not None and affine.bias is not None:
                layers[name] = watch(affine.bias, step.operation.kind != "linear")
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        gradient = self.walk.propagate(activations, start, transforms=layers).relevance
        see(activations.outputs[self.input] * gradient)


def normalised(term: Tensor) -> Tensor:
    """Magnitudes of a term (K, N, C, ...) from 0 to 1, over all of an image's."""
    magnitude = term.abs()
    low, high = (value.view(*term.shape[:2], *[1] * (term.dim() - 2)) for value in magnitude.flatten(2).aminmax(dim=2))
    return (magnitude - low) / (high - low + EPSILON)


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (K, N, ...) linearly to this size of their positions, corners on corners."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(maps, size, mode=mode, align_corners=True)
