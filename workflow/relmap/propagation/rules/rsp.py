r"""Relative Sectional Propagation (Nam et al. 2021).

The positive and the negative section of the relevance, :math:`p = R^+` and :math:`q = -R^-`, each travel by weights of
their own: not the layer's, but the correlation of its input with the section,
:math:`G^p = \partial \sum p \odot (W x) / \partial W`, which is not negative. With
:math:`J(x, V, R) = x \odot V^T (R / V x)`:

.. math::
    D = J(x, G^p, p) - J(x, G^q, q), \qquad R' = 2 D - \frac{\sum R}{\#\{D \ne 0\}} [D \ne 0]

1 x 1 convolutions take ``R' = D``. The sum is conserved per image and target, where every unit with relevance sees an
input that is not 0; the sum of absolute values about doubles with each layer.

Every image and target has its own weights, so each is a group of one grouped convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relmap.network.affine import Affine, Convolution, TransposedConvolution
from relmap.propagation.rules.base import Record, Rule, divide, per_image_sum


def _as_convolution(affine: Affine) -> Convolution:
    """A linear layer is a convolution of single positions."""
    return affine if isinstance(affine, Convolution) else Convolution(affine.weight[:, :, None], None)


def _as_map(affine: Affine, x: Tensor) -> Tensor:
    """``x`` (N, ..., C) of a linear layer as (N, C, positions); a convolution's stays."""
    return x if isinstance(affine, Convolution) else x.movedim(-1, 1).reshape(len(x), x.shape[-1], -1)


def _as_features(affine: Affine, x: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of ``_as_map``, of ``x`` (K N, C, positions), to ``shape``."""
    return x.view(shape) if isinstance(affine, Convolution) else x.movedim(1, -1).reshape(shape)


def _sectional(layer: Convolution, x: Tensor, section: Tensor) -> Tensor:
    """``J(x, G, section)`` of ``x`` (B, C, ...) and ``section`` (B, O, ...), each of the B by itself."""
    count = len(x)
    shape = (count * layer.weight.shape[0], *layer.weight.shape[1:])
    transposed = isinstance(layer, TransposedConvolution)
    beyond = layer.output_padding if transposed else (0,) * len(layer.kernel)
    window = (layer.stride, layer.padding, layer.dilation, transposed, beyond, count * layer.groups)
    flat, section = x.reshape(1, -1, *x.shape[2:]), section.reshape(1, -1, *section.shape[2:])

    def backward(output: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
        return torch.ops.aten.convolution_backward(output, flat, weight, None, *window, wanted)

    correlation = backward(section, x.new_empty(1).expand(shape), [False, True, False])[1]
    z = torch.convolution(flat, correlation, None, *window)
    back = backward(divide(section, z), correlation, [True, False, False])[0]
    return back.view(x.shape).mul_(x)


@dataclass(frozen=True)
class RelativeSectional(Rule):
    """``limit``: how many bytes the weights of the images treated at once may take."""

    limit: int = 2**28

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        affine, (x,) = record.operation.affine, record.inputs
        layer = _as_convolution(affine)
        maps, outputs = (_as_map(affine, v) for v in (x, relevance.flatten(0, 1)))
        copies, count = relevance.shape[:2]
        at_once = max(1, self.limit // (layer.weight.numel() * x.element_size()))
        parts = []
        for where in torch.arange(copies * count, device=x.device).split(at_once):
            images, r = maps[where % count], outputs[where]
            positive, negative = r.clamp(min=0), r.clamp(max=0).neg_()
            parts.append(_sectional(layer, images, positive) - _sectional(layer, images, negative))
        result = _as_features(affine, torch.cat(parts), (copies, *record.shapes[0]))
        if set(layer.kernel) == {1}:
            return (result,)
        counted = result != 0
        shift = divide(per_image_sum(relevance), per_image_sum(counted.to(result.dtype)))
        return (2 * result - counted * shift,)
