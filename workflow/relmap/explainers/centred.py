"""Another method's maps less their mean over the picture: what says more than the average pixel is positive.

AGF's segmentation protocol (Gur et al. 2021, released code) takes a pixel for the object where its map is positive, and
subtracts the mean first of maps of methods that are nearly of one sign (LRP, FullGrad). What metrics judge is then the
centred map, so that it is a method of its own and no exception in the metric.
"""

from __future__ import annotations

from torch import Tensor

from relmap.explainers.base import Explainer, SharedPass, as_maps
from relmap.propagation import Activations, Propagator

# Of a map's largest magnitude: a constant map's rounded mean must not be exceeded.
_ROUNDING = 1e-12


def centred(propagator: Propagator, *, inner: Explainer) -> Explainer:
    """The inner method's maps, each less its own mean; a constant map becomes 0."""
    return SharedCentred(propagator, inner) if isinstance(inner, SharedPass) else Centred(inner)


class Centred(Explainer):
    """Around a method that runs the network itself."""

    def __init__(self, inner: Explainer) -> None:
        self.inner = inner

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return less_mean(self.inner(images, targets))


class SharedCentred(SharedPass):
    """Around a method that reads a forward pass, which it shares."""

    def __init__(self, propagator: Propagator, inner: SharedPass) -> None:
        self.inner, self.input = inner, propagator.graph.operations[0].name
        self.propagator, self.walks, self.keep = propagator, inner.walks, inner.keep

    def signed_activation_map(self) -> SharedCentred | None:
        """Of activation maps, those before their last step, each less its mean."""
        signed = self.inner.signed_activation_map()
        return None if signed is None else SharedCentred(self.propagator, signed)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        return less_mean(as_maps(self.inner.read(activations, targets), tuple(activations.shapes[self.input])))


def less_mean(maps: Tensor) -> Tensor:
    """Maps (A, B, ...), each of an A and a B less its mean over the rest, in float64 on the way."""
    exact = maps.double().flatten(2)
    found = exact - exact.mean(2, keepdim=True)
    flat = found.abs() <= _ROUNDING * exact.abs().amax(2, keepdim=True)
    return found.masked_fill(flat, 0).view(maps.shape).to(maps.dtype)
