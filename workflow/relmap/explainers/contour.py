r"""The contour choice of C3-LRP (Otsuki et al. 2024, section 3.2) around any method: where its map is kept.

With the map :math:`R`, reduced to 28 x 28 cells :math:`\alpha_R` (the area's mean) and made binary,
:math:`B = [\alpha_R > \bar \alpha_R]`,

.. math::
    \alpha_{C_3} &= \text{contour}(B) \wedge \text{component}(B) \qquad \text{(3)} \\
    \alpha_{C^3} &= \alpha_R \odot \alpha_{C_3} \qquad \text{(4)}

expanded bilinearly to the image: ``contour`` is the outer contour of greatest area, filled, ``component`` the largest
of eight neighbours by pixels (``relmap.explainers.components``). A filled contour holds its own component, so (3) is
the largest component unless the two choose different ones; then nothing is left, or one lies in the other's hole.

C1C (Iida et al. 2023) keeps the component with the highest value. The authors' code multiplies it by 3 as well, which
no ranking sees: it is left out.

The paper does not say what is thresholded at what; its mean is C1C's caller's. What "largest contour" measures it does
not say either: OpenCV's area. A cell that no whole number of pixels fills takes the parts of pixels in it. A map that
is the same everywhere has nothing above its mean, and becomes 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import Explainer, SharedPass, as_channel_maps, as_maps
from relmap.explainers.components import component_at, largest_component, largest_contour
from relmap.propagation import Activations, Propagator

SIDE = 28
"""Cells along a side, of the paper; images of fewer pixels keep theirs."""


class Masks(NamedTuple):
    """What Eq. 3 joins, (N, h, w) each: how often ``component & ~contour`` has a cell is how often the AND matters."""

    contour: Tensor
    component: Tensor


def reduced(maps: Tensor, side: int = SIDE) -> Tensor:
    """Maps (..., H, W) as the means of cells, (..., min(side, H), min(side, W)) in float64.

    The mean is over the cell's area: a pixel that reaches into several cells counts in each by its share.
    """
    rows, columns = (min(side, size) for size in maps.shape[-2:])
    values = maps.double()
    cells = _means(_means(values, rows).mT, columns).mT
    first = values[..., :1, :1]
    # Sums of shares round: the cells of a constant map would differ in their last digits.
    constant = (values == first).flatten(-2).all(-1)[..., None, None]
    return torch.where(constant, first, cells)


def _means(values: Tensor, count: int) -> Tensor:
    """(..., H, W) to (..., count, W). Added up in one order, so that neither batch nor device changes a bit."""
    size = values.shape[-2]
    if count == size:
        return values
    # In parts of a pixel, of which it has `count` and a cell `size`.
    begin = torch.arange(count)[:, None] * size
    place = begin // count + torch.arange(-(-size // count) + 1)
    parts = torch.minimum(begin + size, (place + 1) * count) - torch.maximum(begin, place * count)
    share = (parts.clamp(min=0).double() / size).to(values.device)
    place = place.clamp(max=size - 1).to(values.device)
    total = values.new_zeros(*values.shape[:-2], count, values.shape[-1])
    for at, weight in zip(place.T, share.T, strict=True):
        total = total + values[..., at, :] * weight[:, None]
    return total


def above_mean(cells: Tensor) -> Tensor:
    """Where cells (N, h, w) are above their map's mean, bool."""
    values = cells.flatten(1)
    while values.shape[1] > 1:  # pairs of pairs: the same sum on every device
        values = F.pad(values, (0, values.shape[1] % 2))
        values = values[:, : values.shape[1] // 2] + values[:, values.shape[1] // 2 :]
    mean = values[:, :, None] / cells[0].numel()
    least, most = cells.flatten(1).aminmax(dim=1)
    return (cells > mean) & (least < most)[:, None, None]


def masks(cells: Tensor) -> Masks:
    """The two masks of Eq. 3 of reduced maps (N, h, w)."""
    inside = above_mean(cells)
    return Masks(largest_contour(inside), largest_component(inside))


def contour_and_component(cells: Tensor) -> Tensor:
    """Eq. 3."""
    found = masks(cells)
    return found.contour & found.component


def highest(cells: Tensor) -> Tensor:
    """C1C: the component that holds the highest cell, of several equal cells the first in raster order."""
    return component_at(above_mean(cells), cells.flatten(1).argmax(1))


def everything(cells: Tensor) -> Tensor:
    """No choice: the map is reduced and expanded alone."""
    return torch.ones_like(cells, dtype=torch.bool)


CHOICES: dict[str, Callable[[Tensor], Tensor]] = {
    "contour_and_component": contour_and_component,
    "contour": lambda cells: masks(cells).contour,
    "component": lambda cells: masks(cells).component,
    "highest": highest,
    "none": everything,
}


def chosen(maps: Tensor, choice: str = "contour_and_component", side: int = SIDE) -> Tensor:
    """Maps (N, K, H, W) kept where the choice says (Eq. 4), in their size and type; NaN where one is not finite."""
    cells = reduced(maps, side)
    return _expanded(cells[:, :, None], _inside(cells, choice), maps)[:, :, 0]


def chosen_by_channel(maps: Tensor, channels: Tensor, choice: str, side: int = SIDE) -> Tensor:
    """Channels (N, K, C, H, W) kept where their maps (N, K, H, W) are; the sum of channels is kept."""
    return _expanded(reduced(channels, side), _inside(reduced(maps, side), choice), maps)


def _inside(cells: Tensor, choice: str) -> Tensor:
    return CHOICES[choice](cells.flatten(0, 1)).view(cells.shape)


def _expanded(cells: Tensor, inside: Tensor, maps: Tensor) -> Tensor:
    """Cells (N, K, C, h, w), those outside 0, in the size and type of maps (N, K, H, W)."""
    kept = torch.where(inside[:, :, None], cells, 0)
    whole = F.interpolate(kept.flatten(0, 1), maps.shape[-2:], mode="bilinear", align_corners=False)
    # Nothing is above a mean that is no number: such a map would pass for an empty one.
    finite = maps.isfinite().flatten(2).all(2)[:, :, None, None, None]
    return torch.where(finite, whole.unflatten(0, maps.shape[:2]), torch.nan).to(maps.dtype)


def contoured(
    propagator: Propagator, *, inner: Explainer, choice: str = "contour_and_component", side: int = SIDE
) -> Explainer:
    """The contour choice around a method's maps.

    Args:
        propagator: of the model.
        inner: the method.
        choice: key of ``CHOICES``.
        side: cells along each side that maps are reduced to, 28 in the paper, whose images have 8 pixels a cell;
            smaller images have finer cells, and those of fewer pixels than cells are not reduced.

    Raises:
        InputError: an unknown choice, or no cells; when it is run, maps that have not two sides.
    """
    if choice not in CHOICES:
        raise InputError(f"choice {choice!r} is unknown; choose one of {', '.join(CHOICES)}")
    if side < 1:
        raise InputError(f"side is {side}; give the number of cells along a side, 28 in the paper")
    if isinstance(inner, SharedPass):
        return SharedContour(propagator, inner, choice, side)
    return Contour(inner, choice, side)


class Contour(Explainer):
    """Around a method that runs the network itself; arguments as of ``contoured``."""

    def __init__(self, inner: Explainer, choice: str, side: int) -> None:
        self.inner, self.choice, self.side = inner, choice, side

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return chosen(_two_sided(self.inner(images, targets)), self.choice, self.side)

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        """Each channel kept where the map is: their sum is the map's."""
        maps, channels = self.inner(images, targets), self.inner.by_channel(images, targets)
        return chosen_by_channel(_two_sided(maps), channels, self.choice, self.side)


class SharedContour(SharedPass):
    """Around a method that reads a forward pass, which it shares; arguments as of ``contoured``."""

    def __init__(self, propagator: Propagator, inner: SharedPass, choice: str, side: int) -> None:
        self.propagator, self.inner, self.choice, self.side = propagator, inner, choice, side
        self.walks, self.keep = inner.walks, inner.keep

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        maps = as_maps(self.inner.read(activations, targets), self._shape(activations))
        return chosen(_two_sided(maps), self.choice, self.side)

    def read_by_channel(self, activations: Activations, targets: Tensor) -> Tensor:
        """Each channel kept where the map is: their sum is the map's."""
        shape = self._shape(activations)
        maps = _two_sided(as_maps(self.inner.read(activations, targets), shape))
        channels = as_channel_maps(self.inner.read_by_channel(activations, targets), shape)
        return chosen_by_channel(maps, channels, self.choice, self.side)

    def _shape(self, activations: Activations) -> tuple[int, ...]:
        return tuple(activations.shapes[self.propagator.graph.operations[0].name])


def _two_sided(maps: Tensor) -> Tensor:
    if maps.dim() != 4:
        raise InputError(f"maps of shape {tuple(maps.shape)} have no contour; the contour choice is for images")
    return maps
