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

from relmap.network.affine import Affine, Convolution
from relmap.propagation.rules.base import Record, Rule, divide, per_image_sum


def _as_convolution(affine: Affine) -> Convolution:
    """A linear layer is a 1 x 1 convolution of one pixel."""
    return affine if isinstance(affine, Convolution) else Convolution(affine.weight[:, :, None, None], None)


def _sectional(layer: Convolution, x: Tensor, section: Tensor) -> Tensor:
    """``J(x, G, section)`` of ``x`` (B, C, H, W) and ``section`` (B, O, h, w), each of the B by itself."""
    count = len(x)
    shape = (count * layer.weight.shape[0], *layer.weight.shape[1:])
    window = (layer.stride, layer.padding, layer.dilation)
    flat, section = x.reshape(1, -1, *x.shape[2:]), section.reshape(1, -1, *section.shape[2:])

    def backward(output: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
        groups = count * layer.groups
        arguments = (output, flat, weight, None, *window, False, [0, 0], groups, wanted)
        return torch.ops.aten.convolution_backward(*arguments)

    correlation = backward(section, x.new_empty(1).expand(shape), [False, True, False])[1]
    z = torch.nn.functional.conv2d(flat, correlation, None, *window, count * layer.groups)
    back = backward(divide(section, z), correlation, [True, False, False])[0]
    return back.view(x.shape).mul_(x)


@dataclass(frozen=True)
class RelativeSectional(Rule):
    """``limit``: how many bytes the weights of the images treated at once may take."""

    limit: int = 2**28

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        layer = _as_convolution(record.operation.affine)
        (x,) = record.inputs
        maps, outputs = (v if v.dim() > 3 else v[..., None, None] for v in (x, relevance.flatten(0, 1)))
        copies, count = relevance.shape[:2]
        at_once = max(1, self.limit // (layer.weight.numel() * x.element_size()))
        parts = []
        for where in torch.arange(copies * count, device=x.device).split(at_once):
            images, r = maps[where % count], outputs[where]
            positive, negative = r.clamp(min=0), r.clamp(max=0).neg_()
            parts.append(_sectional(layer, images, positive) - _sectional(layer, images, negative))
        result = torch.cat(parts).view(copies, *record.shapes[0])
        if tuple(layer.weight.shape[2:]) == (1, 1):
            return (result,)
        counted = result != 0
        shift = divide(per_image_sum(relevance), per_image_sum(counted.to(result.dtype)))
        return (2 * result - counted * shift,)
