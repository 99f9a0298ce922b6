r"""Attribution Guided Factorization (Gur et al. 2021).

Two streams go back: the attribution ``cam`` and the true gradient ``g`` of the start's score, which the rules read from
the context. With the share :math:`J(v, V, R) = v \odot V^T (R / V v)`, a convolution gives

.. math::
    C = J(|x|, |W|, \mathrm{cam}), \quad A = J(1, |W|, \mathrm{cam}), \quad
    M = \frac{m}{\max m},\; m = \Big(\mathrm{mean}_c (x \odot g_x)\Big)^+ \\
    E = \left[ (F(x) + M)\, \sigma(C) + F(g') + A \right] [C \ne 0], \quad
    \mathrm{cam}' = C + E - \frac{\sum E}{\#\{C \ne 0\}} [C \ne 0]

per image and target, where :math:`g' = W^T (g [\mathrm{cam} \ne 0])` and F is the factorization of ``factorized``.
Linear layers on a flattened map add M alone, other linear layers and 1 x 1 convolutions nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.network.affine import Convolution
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, divide, per_image_sum
from relmap.propagation.rules.rap import AbsoluteShare, widened

GRADIENTS = "agf.gradients"
"""Key of the context: gradient of the score at the outputs of operations, name -> (K, N, ...)."""


def _gradient(context: Mapping, name: str) -> Tensor:
    try:
        return context[GRADIENTS][name]
    except KeyError:
        raise InputError(f"AGF needs the gradient at {name!r}: give it by context={{{GRADIENTS!r}: ...}}") from None


def _by_maximum(x: Tensor) -> Tensor:
    """``x`` (K, N, ...) divided by its maximum over each image, 0 where that is 0."""
    return widened(x, x.flatten(2).amax(2).view(*x.shape[:2], *[1] * (x.dim() - 2)), 1e-9)


def gradient_guide(x: Tensor, gradient: Tensor) -> Tensor:
    """Positive part of the channel mean of input (N, C, h, w) times gradient (K, N, C, h, w): (K, N, 1, h, w)."""
    return (x * gradient).mean(2, keepdim=True).relu_()


def factorized(values: Tensor, phi: Tensor) -> Tensor:
    r"""How much more each pixel resembles the foreground than the background of ``phi``.

    ``values`` (K, N, C, h, w) are divided by their maximum and squashed, :math:`V = \sigma(10 v)`. The columns of Q,
    C x 2, are V's means over the pixels where ``phi`` (K, N, 1, h, w) is negative and positive. Ridge regression of
    each pixel on them, :math:`(Q^T Q + I)^{-1} Q^T V`, positive parts of both weights, and that of their difference.
    """
    v = torch.sigmoid(10 * _by_maximum(values)).flatten(3)
    background, foreground = ((side * phi).flatten(3).gt(0).to(v.dtype) for side in (-1, 1))
    low, high = (divide((v * side).sum(3), side.sum(3)) for side in (background, foreground))  # (K, N, C)
    cross = (low * high).sum(2)[..., None]
    a, d = ((column * column).sum(2)[..., None] + 1 for column in (low, high))
    at_low, at_high = ((column[..., None] * v).sum(2) for column in (low, high))  # (K, N, pixels)
    determinant = a * d - cross * cross
    weight_low, weight_high = (d * at_low - cross * at_high).relu(), (a * at_high - cross * at_low).relu()
    return ((weight_high - weight_low) / determinant).relu().view(phi.shape)


def _centred(extra: Tensor, counted: Tensor) -> Tensor:
    """``extra`` where ``counted``, less its mean over those entries: it sums to 0 over each image."""
    extra = extra * counted
    return extra - counted * divide(per_image_sum(extra), per_image_sum(counted.to(extra.dtype)))


@dataclass(frozen=True)
class GuidedLinear(AbsoluteShare):
    """``map_name``: the feature map that this layer's input flattens, None if it flattens none."""

    epsilon: float = 1e-9
    map_name: str | None = None

    def at(self, graph: Graph, operation: Operation) -> GuidedLinear:
        before = graph[operation.inputs[0]]
        if before.kind != "reshape" or graph[before.inputs[0]].kind in ("linear", "relu"):
            return self
        return replace(self, map_name=before.inputs[0])

    def gradients_needed(self, operation: Operation) -> Iterable[str]:
        return () if self.map_name is None else (self.map_name,)

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (cam,) = super().__call__(record, relevance)
        if self.map_name is None:
            return (cam,)
        gradient = _gradient(record.context, self.map_name)
        guide = gradient_guide(record.inputs[0].view(gradient.shape[1:]), gradient).expand_as(gradient)
        counted = cam != 0
        return (cam + _centred(_by_maximum(guide.reshape(cam.shape) * counted), counted),)


@dataclass(frozen=True)
class GuidedConvolution(AbsoluteShare):
    """A convolution of more than one pixel; reads the gradient at its input and output from the context."""

    epsilon: float = 1e-9

    def gradients_needed(self, operation: Operation) -> Iterable[str]:
        return (operation.name, *operation.inputs)

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        (x,), affine, shape = record.inputs, record.operation.affine, record.shapes[0]
        at_output, at_input = (_gradient(record.context, n) for n in self.gradients_needed(record.operation))
        (cam,) = super().__call__(record, relevance)
        phi = cam.mean(2, keepdim=True)
        extra = factorized(x[None], phi) + _by_maximum(gradient_guide(x, at_input))
        extra = extra * torch.sigmoid(cam)
        extra += factorized(affine.transpose(at_output * (relevance != 0), affine.weights("own"), shape), phi)
        extra += self._spread(affine, relevance, shape)
        return (cam + _centred(extra, cam != 0),)

    def _spread(self, affine: Convolution, relevance: Tensor, shape: torch.Size) -> Tensor:
        """``A``: relevance over the receptive fields by the weights alone. An image of ones needs no input channels."""
        ones = relevance.new_ones(1, affine.groups, *shape[2:])
        z = affine.apply(ones, affine.over_inputs("absolute"))
        return affine.transpose(widened(relevance, z, self.epsilon), affine.weights("absolute"), shape)
