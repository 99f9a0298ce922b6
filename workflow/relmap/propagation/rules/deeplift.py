r"""DeepLIFT's multipliers, the Rescale rule (Shrikumar et al. 2017): differences from a reference instead of slopes.

With :math:`\Delta x = x - x^0` between an image and the reference, an operation's multipliers are complete:

.. math:: \sum_i m_i \Delta x_i = \sum_j m_j \Delta y_j

- What acts on each value alone: :math:`m_i = m_j \Delta y / \Delta x`, the slope where :math:`\Delta x = 0`.
- A linear operation: :math:`J^T m`, the gradient's rule.
- A maximum pool, as in captum: :math:`m_j \Delta y_j / \Delta x_i` for the entry ``i`` with the larger of the two
  maxima, the image's or the reference's.

Shrikumar et al. stop there. Those below are the same for what transformers have besides:

- A product is bilinear, so its differences are its Jacobian at the middle :math:`\bar x = (x + x^0) / 2`.
- A softmax is :math:`y = e^l` with :math:`l = x - \log \sum e^x`. With the logarithmic mean
  :math:`L = \Delta y / \Delta l` of both probabilities, :math:`\sum \Delta y = 0` gives
  :math:`\Delta \log \sum e^x = \sum L \Delta x / \sum L`, and :math:`m_x = L\, (m - \sum L m / \sum L)`: the
  gradient with L for y.
- A norm is :math:`g\, c / s + b`, c linear and :math:`q = s^2` quadratic in x: the product rule, with
  :math:`\Delta (1/s) = -\Delta q / (s\, s^0 (s + s^0))` and :math:`\Delta q = \nabla q(\bar x) \cdot \Delta x`.

The outputs for the reference, one image, are in the record's context under ``reference``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, jacobian_at

REFERENCE = "reference"


class Secant(Rule):
    """Multipliers of an operation's inputs by what it makes of the image and of the reference."""

    needs_inputs = True

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        reference = record.context[REFERENCE]
        return self.multipliers(record, [reference[name] for name in record.operation.inputs], relevance)

    @abstractmethod
    def multipliers(self, record: Record, reference: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
        """``reference``: the inputs (1, ...) for the reference; ``m`` (K, N, ...): multipliers of the output."""


@dataclass(frozen=True)
class Rescale(Secant):
    """Of a function of each value; ``kinked``: it is piecewise linear, whose differences lose no digits."""

    kinked: bool = False

    def multipliers(self, record: Record, reference: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
        (x,), (x0,), run = record.inputs, reference, record.operation.run
        difference = x - x0
        near = difference.abs() <= (0 if self.kinked else torch.finfo(x.dtype).eps ** 0.5)
        middle = x if self.kinked else (x + x0) / 2
        (slope,) = jacobian_at(run, torch.ones_like(middle)[None], [middle])
        return (m * torch.where(near, slope[0], (run(x) - run(x0)) / difference.masked_fill(near, 1)),)


class Midpoint(Secant):
    """Of a bilinear operation: the Jacobian halfway."""

    def multipliers(self, record: Record, reference: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
        middle = [(x + x0) / 2 for x, x0 in zip(record.inputs, reference, strict=True)]
        return jacobian_at(record.operation.run, m, middle)


class LargerMaximum(Secant):
    """Of a maximum pool: all to the image's winner where its maximum is the larger, else to the reference's."""

    def multipliers(self, record: Record, reference: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
        (x,), (x0,) = record.inputs, reference
        own, other = _winners(record.operation, x), _winners(record.operation, x0)
        flat, flat0 = x.flatten(2), x0.flatten(2)
        gain = flat.gather(2, own) - flat0.gather(2, other)
        at = torch.where(gain >= 0, own, other)
        change = (flat - flat0).gather(2, at)  # never smaller than the gain
        ratio = torch.where(change == 0, 1, gain / change)
        result = m.new_zeros(*m.shape[:3], flat.shape[2])
        return (result.scatter_add_(3, at.expand(len(m), *at.shape), m.flatten(3) * ratio).view(-1, *x.shape),)


def _winners(operation: Operation, x: Tensor) -> Tensor:
    """Position of each window's maximum in the flattened input, (N, C, windows)."""
    window = operation.settings
    if "winners" in window:
        return window["winners"](x).flatten(2)
    arguments = [window[key] for key in ("kernel", "stride", "padding", "dilation", "ceil_mode")]
    return F.max_pool2d(x, *arguments, return_indices=True)[1].flatten(2)


@dataclass(frozen=True)
class LogarithmicMean(Secant):
    """Of a softmax, or a log-softmax."""

    logarithm: bool = False

    def multipliers(self, record: Record, reference: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
        (x,), (x0,), dim = record.inputs, reference, record.operation.settings["dim"]
        log, log0 = x.log_softmax(dim), x0.log_softmax(dim)
        # e^b (e^d - 1) / d from the larger b of both: d is not positive, and nothing overflows.
        higher, fall = torch.maximum(log, log0), -(log - log0).abs()
        fall = torch.where(log == log0, 0, fall)  # both may be minus infinity, where a mask is
        mean = higher.exp() * torch.where(fall == 0, 1, torch.expm1(fall) / fall.masked_fill(fall == 0, 1))
        share = mean / mean.sum(dim, keepdim=True)
        dim = dim + 1 if dim >= 0 else dim  # multipliers have one dimension more
        if self.logarithm:
            return (m - share * m.sum(dim, keepdim=True),)
        return (mean * (m - (share * m).sum(dim, keepdim=True)),)


class NormSecant(Secant):
    """Of a norm by the image's own statistics.

    Raises:
        InputError: one that is no centred input over its standard deviation, when the rule is placed.
    """

    def at(self, graph: Graph, operation: Operation) -> NormSecant:
        if not {"normalized_shape", "groups"} & operation.settings.keys():
            raise InputError(
                f"DeepLIFT has no multipliers for the norm {operation.name!r}: it knows layer norm, RMS norm and group "
                "norm; choose another method, such as integrated_gradients"
            )
        return self

    def multipliers(self, record: Record, reference: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
        (x,), (x0,), parts = record.inputs, reference, record.operation.settings["parts"]
        (c, s, gain), (c0, s0, _) = parts(x), parts(x0)

        def centred_and_square(x: Tensor) -> tuple[Tensor, Tensor]:
            centred, std, _ = parts(x)
            return centred, std.square()

        m = m if gain is None else m * gain
        of_scale = (m * (c + c0) / 2).sum_to_size(len(m), *s.shape)
        of_square = -of_scale / (s * s0 * (s + s0))
        of_centred = m * (1 / s + 1 / s0) / 2
        return (_pulled(centred_and_square, (of_centred, of_square), (x + x0) / 2),)


def _pulled(run, multipliers: tuple[Tensor, ...], at: Tensor) -> Tensor:
    """``J^T m`` of a function with several outputs, (K, N, ...), at ``at`` (N, ...)."""
    with torch.enable_grad():
        leaf = at.detach().contiguous().requires_grad_()
        return torch.autograd.grad(run(leaf), leaf, [m.contiguous() for m in multipliers], is_grads_batched=True)[0]
