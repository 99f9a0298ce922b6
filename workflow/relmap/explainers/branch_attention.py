r"""The attention map of an Attention Branch Network (Fukui et al. 2019): a, by which it weighs its own features.

It is one map for all classes, between 0 and 1, of the size of the stage that is weighed; ``relmap.models.abn`` has the
network's equations. A network of one's own names the layer that gives it, (N, 1, h, w), in its attribute
``attention_map``.
"""

from __future__ import annotations

from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.propagation import Activations, Propagator


class BranchAttention(SharedPass):
    """The model's own attention map, resized bilinearly.

    Args:
        propagator: of the model.

    Raises:
        InputError: the model names no attention map; when it is run, what it names is none.
    """

    def __init__(self, propagator: Propagator) -> None:
        layer = getattr(propagator.model, "attention_map", None)
        if not isinstance(layer, str):
            raise InputError(
                "attention_branch_network shows the attention of a network's own branch, and this one has none: give "
                "an Attention Branch Network, such as abn_resnet50, or name the layer in its attribute `attention_map`"
            )
        self.propagator, self.layer = propagator, propagator.graph.activation_of(layer)
        self.keep = (self.layer,)

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        found = activations.outputs[self.layer]
        if found.dim() != 4 or found.shape[1] != 1:
            raise InputError(f"attention_map {self.layer!r}: its output is {tuple(found.shape)}, not (N, 1, h, w)")
        return found[:, 0].expand(len(targets), *found[:, 0].shape)
