r"""Maps read off the attention of a vision transformer, at its patches.

With the attention :math:`A_l` of layer l, (heads, T, T), :math:`\bar A` its mean over the heads, and the row of the
class token, from which the logits are read:

.. math::
    \text{last layer: } \bar A_L, \qquad
    \text{rollout (Abnar and Zuidema 2020): } \hat A_L \cdots \hat A_s, \quad
        \hat A = \mathrm{rows}\, \frac{\bar A + I}{2}, \qquad
    \text{TIBAV (Chefer et al. 2021): } (C_L + I) \cdots (C_s + I), \quad
        C_l = \overline{\Big( \frac{\partial z_t}{\partial A_l} \odot R_l \Big)^{\!+}}

``rows`` brings the sum of every row to 1; TIBAV's factors stay as they are. :math:`R_l` is the relevance of the
attention from 1 at the target: z+ without bias in linear layers, products in halves, layer norms, GELU and softmax pass
it on, residual additions share it by ``ShareBySums``. The first layer s is ``start_layer``, counted from 0: 0 in the
authors' code, 1 in their segmentation. The first two maps are the same for all classes.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.explainers.tokens import attended_tokens, attention_weights, class_token
from relmap.propagation import Activations, Composite, Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta, Pass
from relmap.propagation.rules.abslrp_attention import require_attention
from relmap.propagation.rules.attention import Halves, ShareBySums

_EPSILON = 1e-9  # of the authors' divisions


class ClassRow(SharedPass):
    """A row of numbers, one a token, from which the patches' are taken: maps (K, N, h, w).

    Attributes:
        of_class_token: whether the row is that of the token that the logits are read off, which there must then be.

    Raises:
        InputError: a model without self-attention; when it is run, one whose layers do not attend to the same tokens,
            or whose logits are not read off one of them.
    """

    of_class_token = True

    def __init__(self, propagator: Propagator, start_layer: int) -> None:
        require_attention(propagator.graph, "a map of attention")
        weights = attention_weights(propagator.graph)
        if not 0 <= start_layer < len(weights):
            raise InputError(
                f"start_layer is {start_layer}; the model has {len(weights)} layers of attention, 0 the first"
            )
        self.propagator, self.weights = propagator, weights[start_layer:]
        self.keep = self.weights

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        graph, shapes = self.propagator.graph, activations.shapes
        given = tuple(shapes[graph.operations[0].name])
        if len(given) != 4:
            raise InputError(
                f"a map of attention shows an image's patches, and the input {given} is no images; give images"
            )
        found, place = attended_tokens(graph, shapes), class_token(graph, shapes)
        count = 0 if found is None else len(found[1].positions)
        for name in self.weights:
            if len(shapes[name]) != 4 or tuple(shapes[name][2:]) != (count, count):
                raise InputError(
                    f"{name!r}: attention of {tuple(shapes[name])}, not of all tokens to all in each layer"
                )
        if place is None and self.of_class_token:
            raise InputError("the logits are not read off a class token, whose row a map of attention is")
        row = self.row(activations, targets, place)
        return found[1].to_map(row[..., None])[:, :, 0].expand(*targets.shape, -1, -1)

    @abstractmethod
    def row(self, activations: Activations, targets: Tensor, place: int | None) -> Tensor:
        """Of K targets of each of N images, or of the images alone: (K or 1, N, T); ``place``: the class token's."""


class LastLayerAttention(ClassRow):
    """Attention of the last layer, mean over its heads."""

    def __init__(self, propagator: Propagator) -> None:
        super().__init__(propagator, len(attention_weights(propagator.graph)) - 1)

    def row(self, activations: Activations, targets: Tensor, place: int) -> Tensor:
        return activations.outputs[self.weights[-1]][None, :, :, place].mean(2)


class AttentionRollout(ClassRow):
    """Attention of all layers from ``start_layer`` on."""

    def __init__(self, propagator: Propagator, *, start_layer: int = 0) -> None:
        super().__init__(propagator, start_layer)

    def row(self, activations: Activations, targets: Tensor, place: int) -> Tensor:
        factors = (_with_identity(activations.outputs[name].mean(1)) for name in self.weights)
        return _row_of_product([each / each.sum(-1, keepdim=True) for each in factors], place)[None]


class TIBAV(ClassRow):
    """Gradient times relevance of all layers' attention from ``start_layer`` on."""

    def __init__(self, propagator: Propagator, *, start_layer: int = 0) -> None:
        super().__init__(propagator, start_layer)
        self.gradient, self.relevance = propagator.by(composites.gradient()), propagator.by(tibav_rules())
        self.walks = (self.gradient, self.relevance)

    def row(self, activations: Activations, targets: Tensor, place: int) -> Tensor:
        start = starts.stacked(starts.one_hot, activations.logits, targets)
        gradient, relevance = (
            walk.propagate(activations, start, stop=self.weights[0], capture=self.weights).captured
            for walk in self.walks
        )
        factors = [_with_identity((gradient[name] * relevance[name]).clamp(min=0).mean(2)) for name in self.weights]
        return _row_of_product(factors, place).to(activations.logits.dtype)


def tibav_rules() -> Composite:
    """Of the relevance that TIBAV multiplies by the gradient, as in the authors' code with alpha = 1."""
    layer = AlphaBeta(1.0, 0.0)
    kinds = {
        "linear": layer,
        "conv": layer,
        "matmul": Halves(_EPSILON),
        "softmax": Pass(),
        "add": ShareBySums(_EPSILON),
    }
    return Composite(composites.STRUCTURE | kinds, fold_batch_norm=False)


def _with_identity(matrix: Tensor) -> Tensor:
    return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def _row_of_product(factors: list[Tensor], place: int) -> Tensor:
    """One row of the product of matrices (..., T, T), the last layer's on the left."""
    *before, last = factors
    row = last[..., place : place + 1, :]
    for factor in reversed(before):
        row = row @ factor
    return row[..., 0, :]
