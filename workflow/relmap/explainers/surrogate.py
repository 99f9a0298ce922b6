r"""A linear model of what happens when regions of an image are removed: LIME and KernelSHAP.

A coalition :math:`z \in \{0, 1\}^R` keeps the regions r with :math:`z_r = 1` of an image x; the others are filled. With
:math:`f(z)` the target's score of that image:

.. math::
    \text{LIME (Ribeiro et al. 2016): } & \min_{w, b} \sum_z e^{-d(z)^2 / 2 \sigma^2} \big( f(z) - b - w^T z \big)^2
        + \lambda \lVert w \rVert^2, \qquad d(z) = 1 - \sqrt{|z| / R} \\
    \text{KernelSHAP (Lundberg and Lee 2017): } & \min_{\phi} \sum_{z \neq 0, 1}
        \frac{R - 1}{\binom{R}{|z|} |z| (R - |z|)} \big( f(z) - f(0) - \phi^T z \big)^2, \qquad
        \phi^T 1 = f(1) - f(0)

LIME's coalitions are the whole image and others whose regions are each kept with probability 1/2; a removed region gets
its mean colour, f is the probability, :math:`\sigma = 0.25`, :math:`\lambda = 1`, and the constant term is not
penalised, as in the authors' code for images. It is painted on its regions as it stands.

KernelSHAP takes all coalitions where they are no more than ``samples``: :math:`\phi` are then the Shapley values of the
regions. Else sizes are drawn by their total weight and members evenly, each coalition followed by its complement, and
all weigh the same. A removed region becomes 0 in normalised space, the mean colour; f is the logit. A region's value is
spread evenly over its pixels, so that the map's total is :math:`f(1) - f(0)` however many coalitions there were.

Coalitions follow from the seed and the number of regions: they are the same for all images, whatever the batch.
KernelSHAP's regions are the cells of a grid, LIME's superpixels, as its authors have (theirs are quickshift's, ours
SLIC's).
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.explainers.superpixels import mean_colours, regions_of, sizes_of
from relmap.job.seeds import generator
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Propagator

SCORES = {"logit": lambda scores: scores, "softmax": lambda scores: scores.double().softmax(1)}
FILLS = ("zero", "region_mean")


class Surrogate(Explainer):
    """Scores of all coalitions of all images, by plain forward passes that the targets share.

    Args:
        propagator: of the model.
        samples: coalitions.
        regions: ``grid`` or ``slic``.
        side: regions on a side of the image.
        fill: of what is removed, ``zero`` or ``region_mean``.
        score: ``logit`` or ``softmax``; of a score map's pooled scores.
        seed: of the coalitions.
        batch: images with regions removed of one forward pass. It does not change the map.
    """

    called = ""

    def __init__(
        self,
        propagator: Propagator,
        *,
        samples: int,
        regions: Literal["grid", "slic"],
        side: int,
        fill: Literal["zero", "region_mean"],
        score: Literal["logit", "softmax"],
        seed: int,
        batch: int,
    ) -> None:
        for name, value in (("samples", samples), ("side", side), ("batch", batch)):
            if value < 1:
                raise InputError(f"{self.called}: {name} is {value}; give at least 1")
        for name, given, known in (
            ("regions", regions, ("grid", "slic")),
            ("fill", fill, FILLS),
            ("score", score, tuple(SCORES)),
        ):
            if given not in known:
                raise InputError(f"{self.called}: {name} {given!r} is unknown; choose one of {', '.join(known)}")
        self.propagator, self.samples, self.regions, self.side = propagator, samples, regions, side
        self.fill, self.score, self.seed, self.batch = fill, SCORES[score], seed, batch

    @abstractmethod
    def coalitions(self) -> Tensor:
        """Which regions are kept, (m, R) float64, 0 or 1."""

    @abstractmethod
    def values(self, coalitions: Tensor, scores: Tensor, sizes: Tensor) -> Tensor:
        """What each pixel of a region gets, (N, R, K), of scores (N, m, K) and pixels of the regions (N, R)."""

    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        if not images.is_floating_point() or images.dim() != 4:
            raise InputError(
                f"{self.called}: the input is {images.dtype} of shape {tuple(images.shape)}, and only pictures have "
                "regions; give images (N, C, H, W)"
            )
        regions, coalitions = regions_of(images, self.regions, self.side), self.coalitions().to(images.device)
        count = self.side**2
        filled = torch.zeros_like(images) if self.fill == "zero" else mean_colours(images, regions, count)
        parts = []
        for kept in coalitions.to(images.dtype).split(max(1, self.batch // len(images))):
            masks = kept[:, regions].transpose(0, 1)[:, :, None]  # (N, m, 1, H, W)
            changed = torch.lerp(filled[:, None], images[:, None], masks)
            logits = pooled_scores(self.propagator.forward(changed.flatten(0, 1)).logits)
            scores = self.score(logits).unflatten(0, changed.shape[:2])
            parts.append(scores.gather(2, targets[:, None].expand(-1, len(kept), -1)).double())
        values = self.values(coalitions, torch.cat(parts, 1), sizes_of(regions, count))
        index = regions.flatten(1)[..., None].expand(-1, -1, values.shape[2])
        return values.gather(1, index).mT.unflatten(2, images.shape[2:]).to(images.dtype)


class LIME(Surrogate):
    """Ridge regression near the whole image.

    Args:
        width: sigma, of the coalitions' weights.
        penalty: lambda.
        propagator, samples, regions, side, fill, score, seed, batch: as for ``Surrogate``.
    """

    called = "LIME"

    def __init__(
        self,
        propagator: Propagator,
        *,
        samples: int = 1000,
        regions: Literal["grid", "slic"] = "slic",
        side: int = 7,
        fill: Literal["zero", "region_mean"] = "region_mean",
        score: Literal["logit", "softmax"] = "softmax",
        width: float = 0.25,
        penalty: float = 1.0,
        seed: int = 0,
        batch: int = 64,
    ) -> None:
        if width <= 0 or penalty <= 0:
            raise InputError(f"LIME: width is {width}, penalty {penalty}; both must be positive")
        common = {"fill": fill, "score": score, "seed": seed, "batch": batch}
        super().__init__(propagator, samples=samples, regions=regions, side=side, **common)
        self.width, self.penalty = width, penalty

    def coalitions(self) -> Tensor:
        count = self.side**2
        drawn = torch.rand(self.samples, count, generator=generator(self.seed, "lime", count), dtype=torch.float64)
        kept = (drawn < 0.5).double()
        kept[0] = 1
        return kept

    def values(self, coalitions: Tensor, scores: Tensor, sizes: Tensor) -> Tensor:
        weights = self.weights(coalitions)
        share = weights / weights.sum()
        centred = coalitions - share @ coalitions
        left = (weights * centred.T) @ centred
        left += self.penalty * torch.eye(len(left), dtype=left.dtype, device=left.device)
        mean = torch.einsum("m,nmk->nk", share, scores)
        right = torch.einsum("mr,nmk->nrk", weights[:, None] * centred, scores - mean[:, None])
        return torch.linalg.solve(left, right)

    def weights(self, coalitions: Tensor) -> Tensor:
        distance = 1 - coalitions.mean(1).sqrt()
        return torch.exp(-(distance**2) / (2 * self.width**2))


class KernelSHAP(Surrogate):
    """Shapley values of a grid's cells, exactly where all coalitions are taken.

    Args:
        propagator, samples, side, fill, score, seed, batch: as for ``Surrogate``; the whole and the empty
            image come to the samples.
    """

    called = "KernelSHAP"

    def __init__(
        self,
        propagator: Propagator,
        *,
        samples: int = 2000,
        side: int = 7,
        fill: Literal["zero", "region_mean"] = "zero",
        score: Literal["logit", "softmax"] = "logit",
        seed: int = 0,
        batch: int = 64,
    ) -> None:
        common = {"fill": fill, "score": score, "seed": seed, "batch": batch}
        super().__init__(propagator, samples=samples, regions="grid", side=side, **common)
        if not self.complete and samples < side**2:
            raise InputError(
                f"KernelSHAP: {samples} samples do not tell {side**2} regions apart; give at least as many"
            )

    @property
    def complete(self) -> bool:
        """Whether all coalitions are taken."""
        return self.side**2 <= 30 and 2 ** (self.side**2) - 2 <= self.samples

    def coalitions(self) -> Tensor:
        """The empty image and the whole one first."""
        count = self.side**2
        ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, count)
        if count == 1:
            return ends
        if self.complete:
            every = torch.tensor(list(product((0.0, 1.0), repeat=count)), dtype=torch.float64)
            return torch.cat([ends, every[1:-1]])
        draws = generator(self.seed, "kernel_shap", count)
        pairs = -(-self.samples // 2)
        sizes = 1 + torch.multinomial(_weight_of_sizes(count), pairs, replacement=True, generator=draws)
        order = torch.rand(pairs, count, generator=draws, dtype=torch.float64).argsort(1).argsort(1)
        kept = (order < sizes[:, None]).double()
        return torch.cat([ends, torch.stack([kept, 1 - kept], 1).flatten(0, 1)[: self.samples]])

    def values(self, coalitions: Tensor, scores: Tensor, sizes: Tensor) -> Tensor:
        empty, whole = scores[:, :1], scores[:, 1:2]
        between, gain = coalitions[2:], whole - empty  # (N, 1, K)
        if not len(between):
            return gain / sizes[..., None]
        weights = self.weights(between)
        # The last region takes what the others leave: the sum is the gain whatever they are.
        design = between[:, :-1] - between[:, -1:]
        wanted = scores[:, 2:] - empty - between[:, -1:] * gain
        root = weights.sqrt()[:, None]
        others = torch.linalg.pinv(root * design) @ (root * wanted)
        values = torch.cat([others, gain - others.sum(1, keepdim=True)], 1)
        return values / sizes[..., None]

    def weights(self, between: Tensor) -> Tensor:
        if not self.complete:
            return torch.ones(len(between), dtype=torch.float64, device=between.device)
        count = between.shape[1]
        sizes = between.sum(1)
        members = torch.special.gammaln(torch.tensor(count + 1.0, dtype=torch.float64, device=between.device))
        chosen = members - torch.special.gammaln(sizes + 1) - torch.special.gammaln(count - sizes + 1)
        return (count - 1) / (chosen.exp() * sizes * (count - sizes))


def _weight_of_sizes(count: int) -> Tensor:
    """Of all coalitions of each size from 1 to ``count - 1`` together."""
    sizes = torch.arange(1, count, dtype=torch.float64)
    return (count - 1) / (sizes * (count - sizes))
