r"""DeepLIFT (Shrikumar et al. 2017), the Rescale rule.

.. math:: R_i = m_i\, (x_i - x^0_i), \qquad \sum_i R_i = z_t(x) - z_t(x^0)

The multipliers m of ``propagation.rules.deeplift`` are the gradient's where an operation is linear. The reference x0 is
0 in normalised space, the mean colour.

captum's DeepLift (version 0.9) gives the same where no maximum pool is. Behind those of VGG-16 it loses some of the
gain; it refuses networks that use one ReLU module several times, such as torchvision's ResNets; its maps do not add up
on transformers. So this is our own.
"""

from __future__ import annotations

from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.propagation import Activations, Composite, Propagator, composites, starts
from relmap.propagation.rules.deeplift import (
    REFERENCE,
    LargerMaximum,
    LogarithmicMean,
    Midpoint,
    NormSecant,
    Rescale,
)


def rescale() -> Composite:
    """The gradient's composite with differences for slopes wherever an operation is not linear."""
    kinds = {
        "relu": Rescale(kinked=True),
        "gelu": Rescale(),
        "activation": Rescale(),
        "max_pool": LargerMaximum(),
        "matmul": Midpoint(),
        "multiply": Midpoint(),
        "softmax": LogarithmicMean(),
        "log_softmax": LogarithmicMean(logarithm=True),
        "layer_norm": NormSecant(),
    }
    linear = composites.gradient()
    return Composite({**linear.kinds, **kinds}, fold_batch_norm=False)


class DeepLIFT(SharedPass):
    """On the shared forward pass of the images, and one of the reference for each batch.

    Raises:
        InputError: a norm other than layer, RMS and group norm; when called, an input that is no picture, or a factor
            or mask that is another for the image than for the reference.
    """

    def __init__(self, propagator: Propagator) -> None:
        graph = propagator.graph
        self.walk = propagator.by(rescale())
        self.input = graph.operations[0].name
        constants = {name for step in self.walk.steps.values() for name in step.operation.constants}
        self.factors = [name for name in constants if self.input in graph.behind(name)]
        self.walks, self.keep = (self.walk,), (self.input,)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        images, logits = activations.outputs[self.input], activations.logits
        if not images.is_floating_point():
            raise InputError(
                f"DeepLIFT: the input is {images.dtype}, and token ids have no difference from 0; give pictures, or "
                "take input_x_gradient"
            )
        reference = self.walk.forward(images.new_zeros(1, *images.shape[1:]))
        for name in self.factors:
            own, other = activations.outputs[name], reference.outputs[name]
            if own.shape[1:] != other.shape[1:] or not bool((own == other).all()):
                raise InputError(
                    f"DeepLIFT: operation {name!r} multiplies or masks by what is another for the image than for the "
                    "reference, and takes no relevance: its maps would not add up; take integrated_gradients"
                )
        start = starts.stacked(starts.one_hot, logits, targets)
        context = {REFERENCE: reference.outputs}
        return images * self.walk.propagate(activations, start, context=context).relevance
