"""Another method's maps less their mean over the picture: what says more than the average pixel is positive.

AGF's segmentation protocol (Gur et al. 2021, released code) takes a pixel for the object where its map is positive, and
subtracts the mean first of maps of methods that are nearly of one sign (LRP, FullGrad). What metrics judge is then the
centred map, so that it is a method of its own and no exception in the metric.
"""

from __future__ import annotations

from torch import Tensor

from relmap.explainers.base import Explainer
from relmap.propagation import Propagator

# Of a map's largest magnitude: a constant map's rounded mean must not be exceeded.
_ROUNDING = 1e-12


class Centred(Explainer):
    """The inner method's maps, each less its own mean; a constant map becomes 0."""

    def __init__(self, propagator: Propagator, *, inner: Explainer) -> None:
        self.inner = inner

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        maps = self.inner(images, targets)
        exact = maps.double().flatten(2)
        centred = exact - exact.mean(2, keepdim=True)
        flat = centred.abs() <= _ROUNDING * exact.abs().amax(2, keepdim=True)
        return centred.masked_fill(flat, 0).view(maps.shape).to(maps.dtype)
