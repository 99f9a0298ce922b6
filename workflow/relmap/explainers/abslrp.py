r"""absLRP (Vukadin et al. 2024): relative absolute magnitude relevance propagation.

The rules are in ``propagation.rules.abslrp``. Here are the three readings, the contrast and the ablations of Table 10:

- ``abslrp``: each sign of the relevance keeps its sum (the code of the paper's time). The default.
- ``eq12``: Eq. 12 as printed, linear and not conserving.
- ``normalised``: absolute sum 1 after every operation (the later code, without its slips).

.. math::
    \text{single pass: start } 1 \text{ at } t,\; -1/C \text{ elsewhere}; \qquad
    \text{difference: } \frac{P}{\sum |P|} - \frac{Q}{\sum |Q|}
with P from 1 at the target and Q from 1 at every other class.

The two maps are nearly equal. Where relevance is not negative and operations form a chain (VGG), all rules are linear
up to one number for each map, and with :math:`D = P - c Q` for any c

.. math:: \frac{P}{\sum P} - \frac{Q}{\sum Q} = \frac{1}{\sum P} \Big( D - Q \frac{\sum D}{\sum Q} \Big)

What is propagated is D and Q, with c chosen anew at every layer so that D has a total of 0: it is never larger than
what is left of it, and float32 keeps two digits more. Elsewhere P and Q are propagated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.network import Graph
from relmap.network.affine import Convolution
from relmap.propagation import Activations, Composite, Propagator, starts
from relmap.propagation.composites import STRUCTURE, gradient
from relmap.propagation.rules import Pass, Reshape, Rule, Split, Winner
from relmap.propagation.rules.abslrp import (
    EPSILON,
    AbsBatchNorm,
    AbsLayer,
    AbsMove,
    AbsSum,
    ActiveOnly,
    Law,
    OneSign,
    SignWise,
    UnitSum,
    Unrestored,
    unit_sum,
)
from relmap.propagation.rules.abslrp_attention import (
    AbsActivation,
    AbsLayerNorm,
    AbsProduct,
    AbsSoftmax,
    OneBranch,
    Unmasked,
    adds_mask,
    mixes_values,
    require_attention,
)
from relmap.propagation.rules.abslrp_normalised import (
    NormalisedActivation,
    NormalisedBatchNorm,
    NormalisedLayerNorm,
    NormalisedSoftmax,
    WinnerTimesActivation,
)
from relmap.propagation.rules.base import divide, total
from relmap.propagation.rules.blocks import residual_blocks

Contrast = Literal["single_pass", "difference", "none"]
Branch = Literal["values", "attention"]

TURNING = frozenset({"layer_norm", "softmax", "activation"})
"""Kinds of operations at which relevance can change its sign."""


def _equation_12(law: Law, bias: bool = True) -> dict[str, Rule]:
    """Eq. 12 for whatever computes; what only moves values passes relevance on."""
    layer = AbsLayer(law, bias=bias)
    kinds = {
        "relu": ActiveOnly(),
        "conv": layer,
        "linear": layer,
        "batch_norm": AbsBatchNorm(law),
        "layer_norm": AbsLayerNorm(law),
        "gelu": AbsActivation(law),
        "activation": AbsActivation(law),
        "average_pool": AbsSum(law),
        "add": AbsSum(law),
        "matmul": AbsProduct(law),
        "multiply": AbsProduct(law),
        "softmax": AbsSoftmax(law),
    }
    return {**STRUCTURE, **kinds}


def sign_wise(law: Law, branch: Branch | None = None) -> Composite:
    """The code of the paper's time; every rearrangement is an operation of its own.

    ``law``: ``SignWise``, or ``OneSign``. ``branch``: the one of attention that alone goes on.
    """
    moves = {"max_pool": Winner(), "reshape": Reshape(), "concatenate": Split(), "scale": Pass()}
    kinds = {**_equation_12(law), **{kind: AbsMove(law, back) for kind, back in moves.items()}}
    places: tuple = ((adds_mask, Unmasked()),)
    if branch is not None:
        places = (*places, (mixes_values, OneBranch(law, branch)))
    return Composite(kinds, places=places, fold_batch_norm=False)


def equation_12(bias: bool = True) -> Composite:
    """Eq. 12 as printed; ``bias``: whether the layers' denominators have it."""
    return Composite(_equation_12(Unrestored(), bias), places=((adds_mask, Unmasked()),), fold_batch_norm=False)


def normalised(max_pool: Literal["winner", "winner_times_activation"] = "winner") -> Composite:
    """The later public code; ``winner_times_activation`` is what it does with VGG's maximum pools."""
    pools = {"winner": Winner(), "winner_times_activation": WinnerTimesActivation()}
    if max_pool not in pools:
        raise InputError(f"max_pool {max_pool!r} is unknown; choose one of {', '.join(pools)}")
    law = UnitSum()
    kinds = {
        **_equation_12(law),
        "max_pool": AbsMove(law, pools[max_pool]),
        "batch_norm": NormalisedBatchNorm(law),
        "layer_norm": NormalisedLayerNorm(law),
        "gelu": NormalisedActivation(law),
        "activation": NormalisedActivation(law),
        "softmax": NormalisedSoftmax(law),
    }
    return Composite(kinds, places=((adds_mask, Unmasked()),), fold_batch_norm=False)


class _Contrasting(SharedPass):
    """Relevance by one composite with one of the ways to set the target against the other classes.

    ``classes``: N of the single pass, which starts from 1 and -1/N; the number of logits by default. ``joins``: whether
    the rules of relevance that is not negative are linear up to one number for each map, along a chain of operations.
    """

    joins = True
    conserving = True

    def __init__(
        self,
        propagator: Propagator,
        composite: Callable[[Law], Composite],
        contrast: Contrast,
        classes: int | None = None,
        stop: str = "input",
    ) -> None:
        known = {
            "single_pass": [partial(starts.contrast, classes=classes)],
            "difference": [starts.one_hot, starts.others],
            "none": [starts.one_hot],
        }
        if contrast not in known:
            raise InputError(f"contrast {contrast!r} is unknown; choose one of {', '.join(known)}")
        self.starts, self.stop = known[contrast], stop
        graph = propagator.graph
        one_sign = contrast != "single_pass" and not any(operation.kind in TURNING for operation in graph)
        self.pairs = self.joins and one_sign and contrast == "difference" and is_chain(graph)
        self.walk = propagator.by(composite(OneSign(self.pairs) if one_sign else SignWise()))
        self.walks = (self.walk,)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        logits = activations.logits
        if self.pairs:
            pair = torch.cat([starts.stacked(s, logits.double(), targets) for s in self.starts])
            return self._difference_along_a_chain(activations, pair).to(logits.dtype)
        return self.combine(*[self._relevance(activations, starts.stacked(s, logits, targets)) for s in self.starts])

    def _relevance(self, activations: Activations, start: Tensor) -> Tensor:
        return self.walk.propagate(activations, start, stop=self.stop).relevance

    def _difference_along_a_chain(self, activations: Activations, pair: Tensor) -> Tensor:
        """``pair``: starts (2 K, N, C) of the targets, then of the others."""
        taken = []

        def without_total(relevance: Tensor) -> Tensor:
            difference, others = relevance.chunk(2)
            taken.append(divide(total(difference), total(others)))
            share = taken[-1].to(others.dtype).view(*others.shape[:2], *[1] * (others.dim() - 2))
            return torch.cat([difference - share * others, others])

        names = [op.name for op in self.walk.graph if op.affine is not None and op.name != self.walk.graph.output.name]
        relevance = self.walk.propagate(
            activations, without_total(pair), stop=self.stop, transforms=dict.fromkeys(names, without_total)
        ).relevance
        difference, others = without_total(relevance.double()).chunk(2)
        of_target = sum(taken) * total(others)
        return divide(difference, of_target.view(*of_target.shape, *[1] * (difference.dim() - 2)))

    @staticmethod
    def combine(target: Tensor, others: Tensor | None = None) -> Tensor:
        return target if others is None else _difference(target, others).to(target.dtype)


class AbsLRP(_Contrasting):
    """absLRP, each sign restored to its sum after every operation.

    Args:
        contrast: ``single_pass`` from 1 and -1/N, ``difference`` of two passes, or ``none`` (the target alone).
        classes: N of the single pass; the number of logits by default (the authors' code has 1000 for any network).
        branch: of attention, let only the relevance of ``values`` or of ``attention`` (queries and keys) go on.

    Raises:
        InputError: ``branch`` for a model without self-attention, or an unknown ``contrast``.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        contrast: Contrast = "single_pass",
        classes: int | None = None,
        branch: Branch | None = None,
    ) -> None:
        if branch is not None:
            require_attention(propagator.graph, "absLRP of one branch of attention")
        super().__init__(propagator, lambda law: sign_wise(law, branch), contrast, classes)


class AbsLRPEquation12(_Contrasting):
    """Eq. 12 as printed: linear in the start, not conserving. ``bias``: whether the denominators have it.

    Sums grow severalfold with every layer; beyond some sixty layers float32 can overflow: use float64 there.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        contrast: Contrast = "single_pass",
        classes: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(propagator, lambda law: equation_12(bias), contrast, classes)


class AbsLRPNormalised(_Contrasting):
    """The authors' later rule, every output of an operation brought to absolute sum 1.

    The contrast is the difference of two passes, over its largest absolute value.

    Args:
        contrast: ``difference`` or ``none``.
        max_pool: ``winner``, or ``winner_times_activation`` as their code does with VGG.
        drop_negative_logits: other classes with a negative logit get no start, as in their code for VGG. (There the
            target gets none either, and its map is that of the others turned round; ours keeps it.)
    """

    joins = False  # each map is brought to the sum 1 by itself

    def __init__(
        self,
        propagator: Propagator,
        *,
        contrast: Literal["difference", "none"] = "difference",
        max_pool: Literal["winner", "winner_times_activation"] = "winner",
        drop_negative_logits: bool = False,
    ) -> None:
        if contrast == "single_pass":
            raise InputError("absLRP normalised after every operation has no single pass; choose difference or none")
        super().__init__(propagator, lambda law: normalised(max_pool), contrast)
        if drop_negative_logits and contrast == "difference":
            self.starts = [starts.one_hot, _positive_others]

    @staticmethod
    def combine(target: Tensor, others: Tensor | None = None) -> Tensor:
        if others is None:
            return target
        difference = _difference(target, others)
        largest = difference.abs().amax(tuple(range(2, difference.dim())), keepdim=True)
        return (difference / (largest + 1e-9)).to(target.dtype)


class AbsLRPNormalisedLeaking(AbsLRPNormalised):
    r"""``AbsLRPNormalised`` with the graph leak of the authors' code at additions whose shortcut s is the identity.

    There s also feeds the branch u(s) and is not detached, so its share holds the branch's gradient J = du/ds:

    .. math::
        R_s = s \big((1 + \operatorname{sign} s)\, c + J^T ((1 + \operatorname{sign} u)\, c)\big), \qquad
        c = R / |s + u|

    It is brought to absolute sum 1 like every other. Checked on their ResNet.
    """

    def __init__(self, propagator: Propagator, *, contrast: Literal["difference", "none"] = "difference") -> None:
        super().__init__(propagator, contrast=contrast)
        self.gradient = propagator.by(gradient())
        graph = propagator.graph
        carriers = graph.carriers()
        self.leaks = [
            (name, block.source, branch)
            for block in reversed(residual_blocks(graph))
            for name in block.members
            if graph[name].kind == "add" and block.source in graph[name].inputs
            for branch in graph[name].inputs
            if branch != block.source and branch in carriers
        ]
        self.walks, self.keep = (self.gradient, self.walk), tuple(name for _, *pair in self.leaks for name in pair)

    def _relevance(self, activations: Activations, start: Tensor) -> Tensor:
        relevance, at = start, None
        for addition, source, branch in self.leaks:
            relevance = self.walk.propagate(activations, relevance, at=at, stop=addition).relevance
            s, u = activations.outputs[source], activations.outputs[branch]
            c = relevance / ((s + u).abs() + EPSILON)
            of_branch = _reduced((1 + u.sign()) * c, u)
            leak = self.gradient.propagate(activations, of_branch, at=branch, stop=source).relevance
            past, through = unit_sum(s * (_reduced((1 + s.sign()) * c, s) + leak)), unit_sum(of_branch * u / 2)
            relevance = past + self.walk.propagate(activations, through, at=branch, stop=source).relevance
            at = source
        return self.walk.propagate(activations, relevance, at=at).relevance


@starts.of_scores
def _positive_others(logits: Tensor, targets: Tensor) -> Tensor:
    return starts.others(logits, targets) * (logits > 0)


def _reduced(part: Tensor, x: Tensor) -> Tensor:
    """Relevance (K, N, ...) of what was broadcast from ``x`` (N, ...), summed over its copies."""
    return part.sum_to_size(len(part), *x.shape)


def _difference(target: Tensor, others: Tensor) -> Tensor:
    """Of two maps (K, N, ...), each with absolute sum 1, in float64: often all but 1e-4 of them cancels."""
    return unit_sum(target.double()) - unit_sum(others.double())


class AbsLRPPatches(_Contrasting):
    """absLRP stopped at the patch embedding: a patch's relevance, spread evenly over its pixels, (K, N, H, W).

    Raises:
        InputError: a model whose first layer does not cut the image into patches.
    """

    def __init__(
        self, propagator: Propagator, *, contrast: Contrast = "single_pass", classes: int | None = None
    ) -> None:
        embedding = patch_embedding(propagator.graph)
        super().__init__(propagator, sign_wise, contrast, classes, stop=embedding)
        self.size = propagator.graph[embedding].affine.stride

    def _relevance(self, activations: Activations, start: Tensor) -> Tensor:
        patches = super()._relevance(activations, start).sum(2)
        height, width = self.size
        spread = F.interpolate(patches, scale_factor=(float(height), float(width)), mode="nearest")
        return spread / (height * width)


def is_chain(graph: Graph) -> bool:
    """Whether no operation joins two ways of relevance."""
    carriers = graph.carriers()
    return all(sum(name in carriers for name in operation.inputs) <= 1 for operation in graph)


def patch_embedding(graph: Graph) -> str:
    """Name of the convolution that cuts the image into patches.

    Raises:
        InputError: there is none.
    """
    for name in graph.first_affine():
        affine = graph[name].affine
        if type(affine) is Convolution and affine.kernel == affine.stride != (1, 1):
            return name
    raise InputError("absLRP of patches is for models whose first layer cuts the image into patches")
