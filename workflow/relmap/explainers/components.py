r"""Connected components of binary pictures, and the area that a component's outer contour encloses. In batches.

Pixels of the foreground are connected to their eight neighbours, those of the background to four: the outer contour of
a component then separates it from the background outside. A component is named by its first pixel in raster order, so
that the first of several equals is the one that begins first.

The contour is the closed chain of the border pixels' centres, and its area that of the polygon (Green's formula, as
OpenCV's ``contourArea`` of a contour of all points), not a number of pixels. It is added up square by square between
four centres,

.. math:: A = \sum_{\text{squares}} \begin{cases} 1 & \text{all four pixels inside} \\
    \tfrac12 & \text{three: the chain cuts the corner} \\ 0 & \text{fewer: it passes there and back} \end{cases}

where a contour's holes are filled. A line has area 0, a square of k pixels a side :math:`(k - 1)^2`.

Everything is whole numbers and comparisons: the same on every device, of each picture by itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def labelled(foreground: Tensor, neighbours: int = 8) -> Tensor:
    """Name every pixel's component.

    Labels start as the pixels' own numbers. In each round every label's bearer takes the least of its members'
    neighbours, and all labels are followed to their bearers: rounds grow with the logarithm of a component's length.

    Args:
        foreground: (N, h, w), true inside.
        neighbours: 8, or 4.

    Returns:
        (N, h, w) int64: number h' w + w' of the component's first pixel in raster order; h w in the background.
    """
    count = foreground.shape[1] * foreground.shape[2]
    place = torch.arange(count + 1, device=foreground.device)
    inside = F.pad(foreground.flatten(1), (0, 1))
    label = torch.where(inside, place, count)
    while True:
        near = _least_near(label[:, :-1].view(foreground.shape), neighbours).flatten(1)
        near = torch.where(inside[:, :-1], near, count)
        joined = label.scatter_reduce(1, label[:, :-1], near, "amin")
        joined = joined.gather(1, joined)
        joined = joined.gather(1, joined)
        if torch.equal(joined, label):
            return label[:, :-1].view(foreground.shape)
        label = joined


def _least_near(values: Tensor, neighbours: int) -> Tensor:
    """Least value (N, h, w) of each pixel and its neighbours; float64 holds all numbers of pixels."""
    windows = [(3, 3)] if neighbours == 8 else [(1, 3), (3, 1)]
    negative = -values.double()
    pooled = [F.max_pool2d(negative, window, 1, (window[0] // 2, window[1] // 2)) for window in windows]
    return -torch.stack(pooled).amax(0).long()


def filled(foreground: Tensor) -> Tensor:
    """With all holes, and what lies in them: (N, h, w), what no way over four neighbours leads to from outside."""
    outside = labelled(~F.pad(foreground, (1, 1, 1, 1)), neighbours=4) == 0
    return ~outside[:, 1:-1, 1:-1]


def pixel_counts(labels: Tensor) -> Tensor:
    """Pixels of every component: (N, h w) int64, at its name; 0 elsewhere."""
    return _added_up(labels, torch.ones_like(labels), labels.shape[1] * labels.shape[2])


def contour_areas(labels: Tensor) -> Tensor:
    """Twice the area in the contour of every component without holes: (N, h w) int64, at its name; 0 elsewhere."""
    count = labels.shape[1] * labels.shape[2]
    corners = torch.stack([labels[:, :-1, :-1], labels[:, :-1, 1:], labels[:, 1:, :-1], labels[:, 1:, 1:]])
    # Three pixels of a square, or four, are one component's.
    twice = ((corners < count).sum(0) - 2).clamp(min=0)
    names = torch.where(twice > 0, corners.amin(0), count)
    return _added_up(names, twice, count)


def _added_up(names: Tensor, amounts: Tensor, count: int) -> Tensor:
    sums = names.new_zeros(len(names), count + 1)
    return sums.scatter_add(1, names.flatten(1), amounts.flatten(1))[:, :-1]


def largest_component(foreground: Tensor) -> Tensor:
    """The component of most pixels, (N, h, w); of several the first in raster order, of none nothing."""
    labels = labelled(foreground)
    return labels == _first_largest(pixel_counts(labels), labels)


def largest_contour(foreground: Tensor) -> Tensor:
    """The outer contour of greatest area, filled, (N, h, w); of several the first in raster order, of none nothing.

    Contours within another's holes are none of the outer ones. Where all areas are 0, as of lines, it is the first.
    """
    inside = filled(foreground)
    labels = labelled(inside)
    return labels == _first_largest(contour_areas(labels), labels)


def component_at(foreground: Tensor, place: Tensor) -> Tensor:
    """The component (N, h, w) of one pixel of each picture, its number (N,); nothing where that is background."""
    labels = labelled(foreground)
    at = labels.flatten(1).gather(1, place[:, None])[:, :, None]
    return (labels == at) & foreground


def _first_largest(sizes: Tensor, labels: Tensor) -> Tensor:
    """Name (N, 1, 1) of the component of greatest size (N, h w), the first of several; -1 where there is none."""
    place = torch.arange(sizes.shape[1], device=sizes.device)
    named = labels.flatten(1) == place  # a component's first pixel bears its name
    sizes = torch.where(named, sizes, -1)
    best = sizes.argmax(1, keepdim=True)
    return torch.where(named.any(1, keepdim=True), best, -1)[:, :, None]
