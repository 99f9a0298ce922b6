r"""Extremal perturbations (Fong, Patrick and Vedaldi 2019): smooth masks of given areas that keep the logit highest.

For each area a, gradient ascent on the mask's parameters :math:`p \in [0, 1]`, one every ``step`` pixels, seeks

.. math::
    \max_p \; z_t(x \circ M_p) - \lambda\, \frac1P \sum_j \big( \mathrm{sort}(M_p)_j - r^a_j \big)^2, \qquad
    M_p(u) = \sum_i v_i \frac{e^{20 v_i}}{\sum_j e^{20 v_j}}, \quad v_i = k(|u - u_i| / \sigma)\, p_i,
    \quad k(d) = e^{-2 ((d - 1/2)^+)^2}

with r the sorted mask that is 1 on a share a of its P pixels and 0 elsewhere. :math:`x \circ M` is the image blurred by
a Gaussian of :math:`(1 - M)\, 20` pixels, interpolated between 8 levels from 20 to none. It is the paper's preservation
game with TorchRay's settings: 800 steps of SGD at 0.01 with momentum and dampening 0.9 from p = 1, p cut to [0, 1]
after each, lambda from 300 on growing by 1.0035 a step, the image flipped in every other step. The mask is defined on
the image and a margin of sigma around it; P counts both. The map is the sum over the areas of the masks, each smoothed
by a Gaussian of 0.09 of the shorter side (zeros beyond the border), as TorchRay's pointing game does; that smooths
after resizing to the picture's own size, this before. A score map counts by its mean over positions.

At first all parameters are the same, and whole lattices of pixels have one value. Which of equal pixels are the higher
is the sort's whim in TorchRay, and decides for good where the mask goes when nothing else does; here they share r
evenly, within 1e-5 of the value at the area's edge, so that neither order nor rounding counts.

TorchRay's images have a shorter side of 224. For others the step (7 pixels there, at least 1), sigma (3 steps) and the
blur (20 pixels) are scaled by the shorter side over 224, the step to whole pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.gaussian import gaussian_filter
from relmap.propagation import Propagator, composites

AREAS = (0.025, 0.05, 0.1, 0.2)
REFERENCE_SIDE = 224
STEP, STEPS_PER_SIGMA, MAX_BLUR, LEVELS = 7, 3, 20.0, 8
COLDNESS = 20.0
RATE, MOMENTUM = 0.01, 0.9
WEIGHT, GROWTH = 300.0, 1.0035
SMOOTHING = 0.09
TIE = 1e-5


class ExtremalPerturbation(Explainer):
    """Masks of all areas of several pairs of image and target are sought together.

    Args:
        propagator: of the model.
        areas: shares of the image; TorchRay's for VOC. COCO's are 0.018, 0.025, 0.05, 0.1.
        iterations: steps of the search.
        batch: masks of one forward pass, at least those of one pair; it does not change the map.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        areas: Sequence[float] = AREAS,
        iterations: int = 800,
        batch: int = 64,
    ) -> None:
        if not areas or not all(0 < area < 1 for area in areas):
            raise InputError(f"extremal perturbation: areas are {list(areas)}; give shares between 0 and 1")
        if iterations < 1 or batch < 1:
            raise InputError(f"extremal perturbation: iterations is {iterations}, batch {batch}; give at least 1")
        self.walk = propagator.by(composites.gradient())
        self.areas, self.iterations, self.batch = tuple(areas), iterations, batch

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        masks = self.masks(images, targets)
        sigma = SMOOTHING * min(images.shape[2:])
        return (
            gaussian_filter(masks.flatten(0, 1), math.ceil(4 * sigma), sigma, "constant")
            .sum(1)
            .view(*targets.shape, *images.shape[2:])
        )

    @torch.inference_mode(False)
    def masks(self, images: Tensor, targets: Tensor) -> Tensor:
        """The masks of the areas, (N, K, A, H, W), before they are smoothed."""
        if not images.is_floating_point() or images.dim() != 4:
            raise InputError(
                f"extremal perturbation: the input is {images.dtype} of shape {tuple(images.shape)}, and its masks are "
                "of pictures; give images (N, C, H, W)"
            )
        images, targets = images.clone(), targets.clone()  # no tensors of a caller's inference mode
        of_image = torch.arange(len(images), device=images.device).repeat_interleave(targets.shape[1])
        pairs = max(1, self.batch // len(self.areas))
        found = [
            self._sought(images[rows], classes)
            for rows, classes in zip(of_image.split(pairs), targets.flatten().split(pairs), strict=True)
        ]
        return torch.cat(found).unflatten(0, targets.shape)

    def _sought(self, images: Tensor, targets: Tensor) -> Tensor:
        """Masks (B, A, H, W) of pairs of an image (B, C, H, W) and a target (B,)."""
        count, size = len(images), tuple(images.shape[2:])
        shape = SmoothMask(size, images)
        pyramid = blurred(images, MAX_BLUR * min(size) / REFERENCE_SIDE)
        parameters = images.new_ones(count * len(self.areas), *shape.grid)
        pixels = shape.size[0] * shape.size[1]
        outside = torch.tensor([int(pixels * (1 - area)) for area in self.areas] * count, device=images.device)
        classes = targets.repeat_interleave(len(self.areas))
        velocity, weight = torch.zeros_like(parameters), WEIGHT
        for iteration in range(self.iterations):
            with torch.enable_grad():
                leaf = parameters.detach().requires_grad_()
                whole = shape(leaf)
                inside = shape.inside(whole)
                seen = perturbed(pyramid, inside.unflatten(0, (count, -1))).flatten(0, 1)
                seen = seen.flip(3) if iteration % 2 == 0 else seen
                regulariser = weight * (whole - of_area(whole.detach(), outside)).square().mean((1, 2)).sum()
            of_network = self._gradient(seen.detach(), classes)
            (step,) = torch.autograd.grad([seen, regulariser], leaf, [-of_network, torch.ones_like(regulariser)])
            # SGD's momentum starts from the first gradient; dampening is of those that follow.
            velocity = step if iteration == 0 else MOMENTUM * velocity + (1 - MOMENTUM) * step
            parameters = (parameters - RATE * velocity).clamp(0, 1)
            weight *= GROWTH
        return inside.detach().unflatten(0, (count, -1))

    def _gradient(self, images: Tensor, targets: Tensor) -> Tensor:
        """Of each image's (B, C, H, W) logit, at the image."""
        activations = self.walk.forward(images)
        logits = activations.logits
        start = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
        start = start.view(*start.shape, *[1] * (logits.dim() - 2)) / logits[0, 0].numel()
        return self.walk.propagate(activations, start.expand_as(logits)[None]).relevance[0]


class SmoothMask:
    """The mask as a function of its parameters, for images of one size.

    Attributes:
        grid: height and width of the parameters.
        size: of the mask with its margin.
    """

    def __init__(self, size: tuple[int, int], like: Tensor) -> None:
        self.step = max(1, round(STEP * min(size) / REFERENCE_SIDE))
        self.image, self.margin = size, STEPS_PER_SIGMA * self.step
        self.radius, self.padding = 1 + STEPS_PER_SIGMA, 1 + 2 * STEPS_PER_SIGMA
        self.grid = tuple(-(-side // self.step) for side in size)
        self.blocks = tuple(side + 2 * (self.padding - self.radius) for side in self.grid)
        self.size = tuple(self.step * (blocks - 1) + 1 for blocks in self.blocks)
        # From a pixel of a block of step x step to the parameters around it: the same in every block.
        within = torch.arange(self.step, dtype=like.dtype, device=like.device)
        window = torch.arange(2 * self.radius + 1, dtype=like.dtype, device=like.device)
        apart = within - (self.margin + self.step * (window[:, None] - self.padding))  # (2 r + 1, step)
        distance = (apart[:, None, :, None].square() + apart[None, :, None, :].square()).sqrt() / self.margin
        # (2 r + 1, 2 r + 1, step step)
        self.kernel = torch.exp(-2 * (distance - 0.5).clamp(min=0).square()).flatten(2)

    def __call__(self, parameters: Tensor) -> Tensor:
        """Parameters (B, *grid) to masks (B, *size)."""
        padded = F.pad(parameters, (self.padding,) * 4)
        in_blocks = _SmoothMaximum.apply(padded, self.kernel).unflatten(0, (self.step, self.step))
        whole = in_blocks.permute(2, 3, 0, 4, 1).flatten(3, 4).flatten(1, 2)
        return whole[:, : self.size[0], : self.size[1]].clamp(0, 1)

    def inside(self, masks: Tensor) -> Tensor:
        """Masks without their margin, (B, H, W)."""
        height, width = self.image
        return masks[:, self.margin : self.margin + height, self.margin : self.margin + width]


class _SmoothMaximum(torch.autograd.Function):
    """Softmax-weighted means of v = kernel * parameters over each pixel's window.

    Of parameters (B, h, w) and a kernel (k, k, S): (S, B, h - k + 1, w - k + 1). The window's places are gone through
    one by one, forwards and backwards, for all v of all pixels would take k^2 times the memory:
    dM / dv = softmax(v) (1 + coldness (v - M)).
    """

    @staticmethod
    def forward(ctx, parameters: Tensor, kernel: Tensor) -> Tensor:
        total = parameters.new_zeros(_shape(parameters, kernel))
        mean = torch.zeros_like(total)
        for values, weight, _, _ in _windows(parameters, kernel):
            total += weight
            mean.addcmul_(values, weight)
        mean /= total
        ctx.save_for_backward(parameters, kernel, total, mean)
        return mean

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        parameters, kernel, total, mean = ctx.saved_tensors
        slope = gradient / total
        constant = slope * (1 - COLDNESS * mean)
        slope = COLDNESS * slope
        found = torch.zeros_like(parameters)
        for values, weight, place, of_window in _windows(parameters, kernel):
            part = values.mul_(slope).add_(constant).mul_(weight)
            found[place] += torch.tensordot(of_window, part, 1)
        return found, None


def _shape(parameters: Tensor, kernel: Tensor) -> tuple[int, ...]:
    height, width = (side - len(kernel) + 1 for side in parameters.shape[1:])
    return kernel.shape[2], len(parameters), height, width


def _windows(parameters: Tensor, kernel: Tensor) -> Iterator[tuple[Tensor, Tensor, tuple, Tensor]]:
    """For each place of the window: v (S, B, ...), its weight, the slice of the parameters, and the kernel there (S,).

    v is at most 1, and its weight ``exp(coldness (v - 1))``. Both are the caller's until the next place.
    """
    shape = _shape(parameters, kernel)
    values, weight = parameters.new_empty(shape), parameters.new_empty(shape)
    for top in range(len(kernel)):
        for left in range(len(kernel)):
            place = (slice(None), slice(top, top + shape[2]), slice(left, left + shape[3]))
            of_window = kernel[top, left]
            torch.mul(of_window.view(-1, 1, 1, 1), parameters[place], out=values)
            torch.sub(values, 1, out=weight).mul_(COLDNESS).exp_()
            yield values, weight, place, of_window


def of_area(masks: Tensor, outside: Tensor) -> Tensor:
    """What masks (B, h, w) are drawn to: 0 at their ``outside`` (B,) lowest pixels and 1 at the others, as they lie.

    Pixels that are within ``TIE`` of the lowest of those others share what is left evenly.
    """
    flat = masks.flatten(1)
    edge = flat.sort(1)[0].gather(1, outside[:, None])
    above, tied = flat > edge + TIE, (flat - edge).abs() <= TIE
    left = flat.shape[1] - outside - above.sum(1)
    share = (left / tied.sum(1)).to(flat.dtype)
    return (above.to(flat.dtype) + tied * share[:, None]).view(masks.shape)


def blurred(images: Tensor, largest: float) -> Tensor:
    """Images (B, C, H, W) at ``LEVELS`` levels, from blurred by ``largest`` pixels to themselves: (B, L, C, H, W)."""
    levels = []
    for level in range(LEVELS - 1):
        sigma = largest * (1 - level / (LEVELS - 1))
        levels.append(gaussian_filter(images, math.ceil(4 * sigma), sigma, "constant"))
    return torch.stack([*levels, images], 1)


def perturbed(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Images of a pyramid (B, L, C, H, W) seen through masks (B, A, H, W), 1 for what stays: (B, A, C, H, W)."""
    level = masks * (LEVELS - 1)
    lower = level.detach().floor()
    share = (level - lower).unsqueeze(2)
    shape = (*masks.shape[:2], *pyramid.shape[1:])
    every = pyramid.unsqueeze(1).expand(shape)

    def at(index: Tensor) -> Tensor:
        index = index.long()[:, :, None, None].expand(*masks.shape[:2], 1, shape[3], *masks.shape[2:])
        return every.gather(2, index).squeeze(2)

    return (1 - share) * at(lower) + share * at((lower + 1).clamp(max=LEVELS - 1))
