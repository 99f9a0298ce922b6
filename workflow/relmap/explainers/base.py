"""What an explanation method is: built once for a model, it reads maps off a forward pass that methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from relmap.propagation import Activations, Composite, Propagator, Walk, starts
from relmap.propagation.rules.precision import InDouble


class Explainer(ABC):
    """One method for one model.

    Attributes:
        walks: whose needs the forward pass must keep.
        keep: names of further operations whose outputs are read.
    """

    walks: tuple[Walk, ...] = ()
    keep: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        """Relevance of K targets of each of N images.

        Args:
            activations: of a forward pass that kept what ``walks`` and ``keep`` ask for.
            targets: classes, (K, N) int64.

        Returns:
            (K, N, C, H, W) at the input, (K, N, T) for tokens, or a map (K, N, h, w) of an inner layer. Signed, not
            normalised; each image by itself, whatever the batch.
        """


class Relevance(Explainer):
    """Relevance from a start at the logits to the input by one composite: most of the LRP family."""

    def __init__(self, propagator: Propagator, composite: Composite, start: starts.Start) -> None:
        self.walk, self.start = propagator.by(composite), start
        self.walks = (self.walk,)

    def __call__(self, activations: Activations, targets: Tensor) -> Tensor:
        last = self.walk.steps[self.walk.graph.output.name].rule
        logits = activations.logits.double() if isinstance(last, InDouble) else activations.logits
        start = starts.stacked(self.start, logits, targets)
        return self.walk.propagate(activations, start).relevance
