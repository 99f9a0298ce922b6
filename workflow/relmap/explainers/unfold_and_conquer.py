r"""Unfold and Conquer Attribution Guidance (UCAG): another method's maps of enlarged patches, put together (Eq. 1-6).

An image is cut into n x n overlapping patches of the share :math:`\rho` of its sides, enlarged :math:`\alpha` times
(bicubically, no antialiasing), and each is explained by itself, in one batch. With :math:`E_j` the map of patch j for
class k, resized to the patch (:math:`\beta`, bilinearly), and :math:`p_j` its softmax probability,

.. math::
    M = \frac{\sum_j w_j E_j}{\Gamma}, \qquad w_j = \frac{\exp(p_j)}{\max_i \exp(p_i)}

where :math:`\Gamma` counts at each pixel the patches that hold it. Eq. 4 has no division by the maximum, the authors'
code has it; it scales a map as a whole.

:math:`E_j` is signed, neither clipped nor normalised: a class activation map without its last ReLU, at the resolution
of its layer. Of class activation maps (what has a ``signed_activation_map``) the result is finished as their authors
do: ReLU, scaled from its own minimum and maximum to [0, 1], and a Gaussian mean over 5 x 5 pixels with sigma 3, edges
reflected. Where no value is positive the code divides 0 by 0; ours is 0 everywhere, of which ``explain`` warns. Other
methods' maps stay as they are.

**Where patches lie.** On each side S by itself the stride is :math:`(1 - \rho) S / (n - 1)` rounded to a whole number,
and the patch is what makes n of them end where the image ends: 124 and 20 of 224 as in the paper, 34 and 6 of 64. The
authors' code rounds the patch first. Where that does not come out even, as at 64 (35 and 6: 65), its last patches are
cut off and then stretched, and the sum is shrunk to the image. Their script for images of other shapes scales 124 and
20 by height / 224 and width / 224, rounds both down, and so may leave a border without a map.

**Bounds.** Bicubic enlargement overshoots. A method whose first layer takes the range of valid inputs (z-box, of a
network with an ``input_range``) sees the patches clamped to it; all others see them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer, JointRun, SharedPass
from relmap.gaussian import gaussian_filter
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Activations, Propagator
from relmap.propagation.rules import ZBox

_PIXELS = 16 * 224 * 224
_SLACK = 1e-9  # 2.6 * 35 may fall below 91 by rounding


@dataclass(frozen=True)
class Cut:
    """How one side is cut: ``count`` patches of ``size`` pixels, each ``stride`` behind the one before it."""

    size: int
    stride: int
    count: int

    @classmethod
    def of(cls, side: int, count: int, rho: float) -> Cut:
        """The cut of a side into patches of about ``rho * side`` that cover it exactly.

        Raises:
            InputError: there is none.
        """
        if count == 1:
            return cls(side, side, 1)
        stride = round((1 - rho) * side / (count - 1))
        size = side - (count - 1) * stride
        if stride < 1 or size < stride:
            raise InputError(
                f"UCAG: {count} patches of the share {rho} do not cover a side of {side} pixels, each moved on from "
                "the last: give larger images, another n or another rho"
            )
        return cls(size, stride, count)

    def enlarged(self, alpha: float) -> int:
        """Pixels of an enlarged patch."""
        return max(1, math.floor(self.size * alpha + _SLACK))


def fold(pieces: Tensor, rows: Cut, columns: Cut) -> Tensor:
    """Sums (B, H, W) of patches (B, n * n, h, w), row by row, where they lie."""
    size, stride = (rows.size, columns.size), (rows.stride, columns.stride)
    whole = tuple(cut.size + (cut.count - 1) * cut.stride for cut in (rows, columns))
    return F.fold(pieces.flatten(2).mT, whole, size, stride=stride)[:, 0]


def overlaps(rows: Cut, columns: Cut, like: Tensor) -> Tensor:
    """How many patches hold each pixel, (H, W); of the type and device of ``like``."""
    return fold(like.new_ones(1, rows.count * columns.count, rows.size, columns.size), rows, columns)[0]


def finished(maps: Tensor) -> Tensor:
    """Class activation maps (..., H, W) as they are shown: ReLU, scaled to [0, 1], blurred. Without a value, 0."""
    maps = maps.relu()
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    scaled = torch.where(high > low, (maps - low) / torch.where(high > low, high - low, 1), 0)
    return gaussian_filter(scaled.flatten(0, -3)[:, None], 2, 3.0, "reflect").view_as(maps)


class UnfoldAndConquer(JointRun):
    """UCAG of another method.

    Methods that cut images alike share patches and their forward passes, and class activation maps their backward pass,
    when ``relmap.compare`` makes them together.

    Args:
        propagator: of the model.
        inner: the method that explains the patches; one of another kind than ``SharedPass`` runs the network itself.
        n: patches on each side.
        rho: side of a patch as a share of the image's.
        alpha: how many times a patch is enlarged; None for as much as the image's size, where a network takes no other.
        count: what the sum is divided by: ``overlaps``, or as in the authors' code ``plus_one``, one more.
        weights: ``confidence``, or ``uniform``, 1 for all patches, as by the commands in the authors' repository.
        at_once: patches, times targets, that go through the network together, which bounds memory and changes no map;
            by default as many as have the pixels of 16 images of 224 x 224.

    Raises:
        InputError: a value that is out of its range or unknown; when called, images that are none or cannot be cut so,
            or a network that does not take patches of that size.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        inner: Explainer,
        n: int = 6,
        rho: float = 0.555,
        alpha: float | None = 2.6,
        count: Literal["overlaps", "plus_one"] = "overlaps",
        weights: Literal["confidence", "uniform"] = "confidence",
        at_once: int | None = None,
    ) -> None:
        _check(n, rho, alpha, at_once)
        for name, value, known in (
            ("count", count, ("overlaps", "plus_one")),
            ("weights", weights, ("confidence", "uniform")),
        ):
            if value not in known:
                raise InputError(f"UCAG: {name} is {value!r}; choose one of {', '.join(known)}")
        self.propagator = propagator
        self.n, self.rho, self.alpha, self.at_once = n, rho, alpha, at_once
        self.count, self.weights = count, weights
        signed = inner.signed_activation_map()
        self.is_activation_map = signed is not None
        self.inner = inner if signed is None else signed
        self.bounds = _bounds(inner)
        self.inputs = (n, rho, alpha, at_once, self.bounds)

    def together(
        self, methods: Sequence[Self], images: Tensor, targets: Tensor, by_channel: bool = False
    ) -> list[Tensor]:
        images = self._pictures(images)
        rows, columns = (Cut.of(side, self.n, self.rho) for side in images.shape[2:])
        pieces: list[list[Tensor]] = [[] for _ in methods]
        probabilities = []
        for patches, classes in self._patches(images, targets, rows, columns):
            activations = self._forward(patches, [method.inner for method in methods])
            scores = pooled_scores(activations.logits).double().softmax(1)
            probabilities.append(scores.gather(1, classes.T))
            for method, found in zip(methods, pieces, strict=True):
                maps = method._explained(patches, activations, classes, by_channel)
                found.append(_resized(maps, (rows.size, columns.size)))
        count, each = len(images), self.n**2
        probability = torch.cat(probabilities).view(count, each, -1).transpose(1, 2)  # (N, K, n * n)
        shape = (count, each, targets.shape[1], -1, rows.size, columns.size)
        whole = []
        for number, method in enumerate(methods):
            parts = torch.cat(pieces[number], 1).movedim(0, 1).view(shape).permute(0, 2, 3, 1, 4, 5)
            pieces[number] = []
            maps = method._conquered(parts, probability, rows, columns)  # (N, K, C, H, W)
            whole.append(maps if by_channel else maps[:, :, 0])
        return whole

    def _pictures(self, images: Tensor) -> Tensor:
        """Raises ``InputError`` of what has no two sides."""
        if images.dim() != 4 or not images.is_floating_point():
            raise InputError(
                f"UCAG cuts pictures (N, C, H, W) into patches, not inputs of shape {tuple(images.shape)} and type "
                f"{images.dtype}; explain these by the method itself"
            )
        return images.detach().to(torch.promote_types(images.dtype, torch.float32))

    def _patches(self, images: Tensor, targets: Tensor, rows: Cut, columns: Cut) -> Iterator[tuple[Tensor, Tensor]]:
        """Enlarged patches (P, C, h, w), image by image and row by row, and the classes of each, (K, P)."""
        size = tuple(images.shape[2:])
        if self.alpha is not None:
            size = (rows.enlarged(self.alpha), columns.enlarged(self.alpha))
        cut = images.unfold(2, rows.size, rows.stride).unfold(3, columns.size, columns.stride)
        cut = cut.permute(0, 2, 3, 1, 4, 5)  # (N, n, n, C, h, w), a view
        number = torch.arange(len(images) * self.n**2, device=images.device)
        together = self.at_once or _PIXELS // math.prod(size)
        for places in number.split(max(1, together // targets.shape[1])):
            image = places // self.n**2
            patches = cut[image, places // self.n % self.n, places % self.n]
            patches = F.interpolate(patches, size, mode="bicubic", align_corners=False)
            if self.bounds is not None:
                low, high = (patches.new_tensor(bound).view(-1, 1, 1) for bound in self.bounds)
                patches = torch.minimum(torch.maximum(patches, low), high)
            yield patches, targets[image].T

    def _forward(self, patches: Tensor, explainers: Sequence[Explainer]) -> Activations:
        """One forward pass for all that read one."""
        shared = [explainer for explainer in explainers if isinstance(explainer, SharedPass)]
        walks = [walk for explainer in shared for walk in explainer.walks]
        keep = [name for explainer in shared for name in explainer.keep]
        try:
            return self.propagator.forward(patches, walks, keep)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError) as error:
            size = " x ".join(map(str, patches.shape[2:]))
            raise InputError(
                f"UCAG: the network does not take patches of {size} pixels ({error}); where it takes images of one "
                "size alone, give alpha=None"
            ) from error

    def _explained(self, patches: Tensor, activations: Activations, classes: Tensor, by_channel: bool) -> Tensor:
        """Maps (K, P, C, h, w) of patches, C is 1 where channels are merged."""
        if not isinstance(self.inner, SharedPass):
            make = self.inner.by_channel if by_channel else self.inner
            maps = make(patches, classes.T).transpose(0, 1)
        elif by_channel:
            maps = self.inner.read_by_channel(activations, classes)
        else:
            maps = self.inner.read(activations, classes)
        if maps.dim() == 4:
            return maps[:, :, None]
        return maps if by_channel else maps.sum(2, keepdim=True)

    def _conquered(self, parts: Tensor, probability: Tensor, rows: Cut, columns: Cut) -> Tensor:
        """Maps (N, K, C, H, W) of patches (N, K, C, n * n, h, w) with their probability (N, K, n * n)."""
        if self.weights == "confidence":
            weights = (probability - probability.amax(2, keepdim=True)).exp().to(parts.dtype)
            parts = parts * weights[:, :, None, :, None, None]
        total = fold(parts.flatten(0, 2), rows, columns).unflatten(0, parts.shape[:3])
        maps = total / (overlaps(rows, columns, total) + (self.count == "plus_one"))
        return finished(maps) if self.is_activation_map else maps


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, P, C, h, w) to the size of a patch before it was enlarged."""
    return F.interpolate(maps.flatten(0, 1), size, mode="bilinear", align_corners=False).unflatten(0, maps.shape[:2])


def _bounds(inner: Explainer) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Range of valid inputs, per channel or one for all, beyond which the method's first layer refuses images."""
    for walk in getattr(inner, "walks", ()):
        for step in walk.steps.values():
            rule = step.rule
            if isinstance(rule, ZBox) and rule.low is not None and rule.beyond == "refuse":
                return tuple(bound if isinstance(bound, tuple) else (bound,) for bound in (rule.low, rule.high))
    return None


def _check(n: int, rho: float, alpha: float | None, at_once: int | None) -> None:
    wrong: Mapping[str, tuple[object, str]] = {
        "n": (n, "a whole number of at least 1") if isinstance(n, bool) or not isinstance(n, int) or n < 1 else None,
        "rho": (rho, "a share above 0, up to 1") if not 0 < rho <= 1 else None,
        "alpha": (alpha, "a positive number, or None") if alpha is not None and not 0 < alpha < math.inf else None,
        "at_once": (at_once, "a whole number of at least 1, or None") if at_once is not None and at_once < 1 else None,
    }
    for name, fault in wrong.items():
        if fault is not None:
            raise InputError(f"UCAG: {name} is {fault[0]!r}; give {fault[1]}")
    if (n == 1) != (rho == 1):
        raise InputError(
            f"UCAG: n={n} and rho={rho} do not go together: one patch is the whole image (n=1, rho=1), several are less"
        )
