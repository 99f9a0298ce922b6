r"""Linear imputation of many pictures at once: conjugate gradients that a multigrid cycle preconditions.

The systems are those of :mod:`relmap.metrics.imputation`, as many as fit into memory, on any device.

- Grids are tensors (h, w, K) for K systems and channels, padded so that each coarser grid has every second node of the
  finer one. The fine operator is a mask, a product and four sums; coarse ones are the Galerkin products
  :math:`P^T A P` with bilinear P, stencils of nine coefficients for every node, found by probing nine colours.
- The smoother is one Jacobi step by :math:`d_i = \max(a_{ii}, .55 \sum_j |a_{ij}|)`: near the best damping where all
  is missing, exact for a lone pixel, and convergent whatever the mask, since no eigenvalue of :math:`D^{-1}A` exceeds
  1 / .55 (Gershgorin).
- Cycles run in float32, on residuals in float64. What a cycle makes of a residual estimates the error; a system is done
  when this is at most ``tolerance``, and takes no step after that, so that no result depends on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_DIRECT, _DIAGONAL = 1 / 6, 1 / 12
_OFFSETS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
# Of the sum of a row's absolute coefficients: just above 1/2, below which a Jacobi step may diverge.
_DAMPING = 0.55
# The coarsest grid has fewer than twice so many intervals at its shorter side, and is solved directly.
_COARSEST = 4
# Float32 gains so much on a residual before it is measured anew in float64.
_GAIN = 1e-3
_MOST_STEPS = 200
# Values of one grid: what a CPU's cache holds some of, and what keeps a GPU busy.
_VALUES = {"cpu": 1 << 19, "cuda": 1 << 25}


def solved_together(images: Tensor, missing: Tensor, tolerance: float = 3e-6) -> Tensor:
    """Pictures with their missing pixels imputed; arguments and result as of ``imputation.linear_imputation``.

    Args:
        tolerance: greatest error that is estimated of an imputed value, as a share of the picture's greatest absolute
            value. The last step, which the estimate comes from, is taken too, so that less is left.
    """
    # Systems that need as many steps are solved together: it is the share of missing pixels that decides.
    order = missing.flatten(1).sum(1).argsort(stable=True)
    filled, values = torch.empty_like(images), _VALUES["cpu" if images.device.type == "cpu" else "cuda"]
    for places in order.split(max(1, values // images[0].numel())):
        filled[places] = _impute(missing[places], images[places], tolerance)
    return filled


def _impute(missing: Tensor, images: Tensor, tolerance: float) -> Tensor:
    count, channels, height, width = images.shape
    halvings, padding = _geometry(height, width)
    free = F.pad(missing, padding).movedim(0, 2)
    inside = F.pad(torch.ones(height, width, dtype=torch.float64, device=images.device), padding)
    exact = _Picture.of(free, inside, torch.float64).repeated(channels)
    known = F.pad(images.double(), padding).flatten(0, 1).movedim(0, 2) * (1 - exact.mask)
    levels = _levels(_Picture.of(free, inside, torch.float32), halvings, channels)
    enough = tolerance * known.abs().amax((0, 1))
    found = torch.zeros_like(known)
    # Of the known pixels alone, a missing one's residual is what its known neighbours give it.
    residual = exact.residual(torch.zeros_like(known), known)
    running = torch.ones_like(enough, dtype=torch.bool)
    for _ in range(_MOST_STEPS):
        step, estimate = _conjugate_gradients(levels, residual.float(), enough)
        found += step * running
        running = running & (estimate > enough)
        if not running.any():
            break
        residual = exact.residual(torch.zeros_like(known), known + found)
    filled = (known + found)[:height, :width].movedim(2, 0).unflatten(0, (count, channels))
    return filled.to(images.dtype)


def _conjugate_gradients(
    levels: Sequence[_Picture | _Stencils], residual: Tensor, enough: Tensor
) -> tuple[Tensor, Tensor]:
    """Corrections (h, w, K) for residuals (h, w, K), and the errors (K,) that were estimated before the last step.

    A system stops where that error is at most ``enough`` (K,), or a thousandth of its first.
    """
    operator, found = levels[0], torch.zeros_like(residual)
    direction = product = target = None
    for _ in range(_MOST_STEPS):
        step = _cycle(levels, residual)
        estimate = step.abs().amax((0, 1))
        target = torch.maximum(enough, _GAIN * estimate) if target is None else target
        done = estimate <= target
        if done.all():
            break
        before, product = product, (residual * step).sum((0, 1))
        if direction is None:
            direction = step
        else:
            direction = torch.addcmul(step, direction, product / before.masked_fill(before == 0, 1))
        image = operator(direction)
        curvature = (direction * image).sum((0, 1))
        length = (product / curvature.masked_fill(curvature <= 0, 1)).masked_fill(done | (curvature <= 0), 0)
        found.addcmul_(direction, length)
        residual = torch.addcmul(residual, image, length, value=-1)
    return found + step, estimate


def _cycle(levels: Sequence[_Picture | _Stencils], residual: Tensor) -> Tensor:
    """About A^-1 of a residual (h, w, K): smooth, correct by the coarser grids, smooth; symmetric in all."""
    level, *coarser = levels
    if not coarser:
        return level.solved(residual)
    found = residual * level.smoother
    correction = _refined(_cycle(coarser, _coarsened(level.residual(residual, found))))
    found = level.corrected(found, correction)
    return found.addcmul_(level.smoother, level.residual(residual, found))


@dataclass(frozen=True)
class _Picture:
    """The operator of a picture's own grid.

    Attributes:
        mask: (h, w, K) 1 where a pixel is missing, else 0.
        diagonal: (h, w, K), of A and of the sum over neighbours that counts the pixel itself; 0 where none is missing.
        smoother: (h, w, K), inverse of d.
    """

    mask: Tensor
    diagonal: Tensor
    smoother: Tensor

    @classmethod
    def of(cls, free: Tensor, inside: Tensor, dtype: torch.dtype) -> _Picture:
        """Of missing pixels (h, w, B), and of the padded picture's own (h, w)."""
        mask = free.to(dtype)
        weights = _neighbours(inside.unsqueeze(2)).to(dtype)
        absolute = weights + _neighbours(mask)
        smoother = mask / torch.maximum(weights, _DAMPING * absolute).masked_fill(~free, 1)
        return cls(mask, mask * (weights + 2 * _DIRECT), smoother)

    def repeated(self, channels: int) -> _Picture:
        """The same for so many channels of each system."""
        return _Picture(*(one.repeat_interleave(channels, 2) for one in (self.mask, self.diagonal, self.smoother)))

    def __call__(self, values: Tensor) -> Tensor:
        """A of values that are 0 at known pixels."""
        return (self.diagonal * values).addcmul_(self.mask, _hat(values), value=-_DIAGONAL)

    def residual(self, right: Tensor, values: Tensor) -> Tensor:
        """``right`` minus A of values, at missing pixels."""
        taken = torch.addcmul(right, self.diagonal, values, value=-1)
        return taken.addcmul_(self.mask, _hat(values), value=_DIAGONAL)

    def corrected(self, values: Tensor, correction: Tensor) -> Tensor:
        return values.addcmul_(correction, self.mask)


@dataclass(frozen=True)
class _Stencils:
    """An operator of a coarser grid: at each node the coefficients of its neighbours and its own.

    Attributes:
        coefficients: nine of (h, w, K), by ``_OFFSETS``.
        smoother: (h, w, K), inverse of d.
        inverse: (B, h w, h w) of each system's operator, on the coarsest grid alone.
    """

    coefficients: Sequence[Tensor]
    smoother: Tensor
    inverse: Tensor | None = None

    @classmethod
    def of(cls, coefficients: Sequence[Tensor]) -> _Stencils:
        absolute = torch.stack([one.abs() for one in coefficients]).sum(0)
        largest = torch.maximum(coefficients[4], _DAMPING * absolute)
        empty = largest <= 0
        return cls(coefficients, (1 / largest.masked_fill(empty, 1)).masked_fill(empty, 0))

    def repeated(self, channels: int) -> _Stencils:
        coefficients = [one.repeat_interleave(channels, 2) for one in self.coefficients]
        return _Stencils(coefficients, self.smoother.repeat_interleave(channels, 2), self.inverse)

    def inverted(self) -> _Stencils:
        """With its inverse. Nodes without a missing pixel near, and sums that no pixel sees, are held by a ridge."""
        height, width, count = self.smoother.shape
        units = torch.eye(height * width, dtype=self.smoother.dtype, device=self.smoother.device)
        units = units.view(height, width, 1, -1).expand(-1, -1, count, -1)
        dense = self(units).flatten(0, 1).movedim(1, 0).double()
        diagonal = dense.diagonal(dim1=1, dim2=2)
        ridge = torch.where(diagonal > 0, 1e-6 * diagonal, 1.0)
        return _Stencils(self.coefficients, self.smoother, torch.linalg.inv(dense + torch.diag_embed(ridge)))

    def solved(self, residual: Tensor) -> Tensor:
        height, width, _ = residual.shape
        right = residual.flatten(0, 1).unflatten(1, (len(self.inverse), -1)).movedim(1, 0)
        return (self.inverse.to(right.dtype) @ right).movedim(0, 1).flatten(1).unflatten(0, (height, width))

    def __call__(self, values: Tensor) -> Tensor:
        return self._added(torch.zeros_like(values), values, 1)

    def residual(self, right: Tensor, values: Tensor) -> Tensor:
        return self._added(right.clone(), values, -1)

    def corrected(self, values: Tensor, correction: Tensor) -> Tensor:
        return values.add_(correction)

    def _added(self, total: Tensor, values: Tensor, sign: int) -> Tensor:
        height, width = values.shape[:2]
        for (down, right), own in zip(_OFFSETS, self.coefficients, strict=True):
            rows, from_rows = _shifted(down, height)
            columns, from_columns = _shifted(right, width)
            here = own[rows, columns].view(*own[rows, columns].shape, *[1] * (values.dim() - 3))
            total[rows, columns].addcmul_(here, values[from_rows, from_columns], value=sign)
        return total


def _levels(finest: _Picture, halvings: int, channels: int) -> list[_Picture | _Stencils]:
    """The operators from the picture's own to the coarsest grid's, for all channels."""
    levels: list[_Picture | _Stencils] = [finest]
    for _ in range(halvings):
        levels.append(_galerkin(levels[-1]))
    levels[-1] = levels[-1].inverted()
    return [level.repeated(channels) for level in levels]


def _galerkin(fine: _Picture | _Stencils) -> _Stencils:
    """P^T A P: coarse nodes three apart do not meet, so nine products tell all coefficients."""
    height, width, count = fine.smoother.shape
    rows, columns = (torch.arange((side + 1) // 2, device=fine.smoother.device) % 3 for side in (height, width))
    colours = 3 * rows.unsqueeze(1) + columns
    probed = []
    for colour in range(9):
        probe = _refined((colours == colour).to(fine.smoother.dtype).unsqueeze(2))
        probe = fine.corrected(fine.smoother.new_zeros(height, width, count), probe)
        probed.append(_coarsened(fine(probe)))
    probed = torch.stack(probed)
    wanted = [3 * ((rows + down) % 3).unsqueeze(1) + (columns + right) % 3 for down, right in _OFFSETS]
    return _Stencils.of([probed.gather(0, place[None, :, :, None].expand_as(probed[:1]))[0] for place in wanted])


def _geometry(height: int, width: int) -> tuple[int, tuple[int, int, int, int]]:
    """How often a grid is halved, and what it is padded by at the right and below: to whole coarsest intervals."""
    halvings = 1
    while (min(height, width) - 1) >> (halvings + 1) >= _COARSEST:
        halvings += 1
    step = 1 << halvings
    return halvings, (0, -(width - 1) % step, 0, -(height - 1) % step)


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sums over the eight neighbours of each node of (h, w, K)."""
    return _hat(values) * _DIAGONAL - values * (2 * _DIRECT)


def _hat(values: Tensor) -> Tensor:
    """Sums over 3 x 3 nodes of (h, w, K) with weights 1, 2, 1 both ways; nothing beyond the border."""
    down = 2 * values
    down[1:].add_(values[:-1])
    down[:-1].add_(values[1:])
    both = 2 * down
    both[:, 1:].add_(down[:, :-1])
    both[:, :-1].add_(down[:, 1:])
    return both


def _coarsened(values: Tensor) -> Tensor:
    """P^T of (h, w, K), h and w odd: sums with weights 1/2, 1, 1/2 at every second node."""
    down = values[::2].clone()
    down[1:].add_(values[1::2], alpha=0.5)
    down[:-1].add_(values[1::2], alpha=0.5)
    both = down[:, ::2].clone()
    both[:, 1:].add_(down[:, 1::2], alpha=0.5)
    both[:, :-1].add_(down[:, 1::2], alpha=0.5)
    return both


def _refined(values: Tensor) -> Tensor:
    """P of (h, w, K): bilinear values on (2 h - 1, 2 w - 1) nodes."""
    height, width, count = values.shape
    fine = values.new_empty(2 * height - 1, 2 * width - 1, count)
    fine[::2, ::2] = values
    torch.lerp(values[:, :-1], values[:, 1:], 0.5, out=fine[::2, 1::2])
    torch.lerp(fine[:-1:2], fine[2::2], 0.5, out=fine[1::2])
    return fine


def _shifted(by: int, side: int) -> tuple[slice, slice]:
    """Places that have a neighbour ``by`` places on, and those neighbours."""
    return slice(max(0, -by), side - max(0, by)), slice(max(0, by), side - max(0, -by))
