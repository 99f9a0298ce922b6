r"""Class activation maps: the last feature map A, weighed by the gradient G of the target's logit there.

.. math::
    \text{Grad-CAM (Selvaraju et al. 2017): } & M = \Big( \sum_c A_c \, \frac{1}{hw} \sum_{h,w} G_c \Big)^+ \\
    \text{HiResCAM (Draelos and Carin 2020): } & M = \Big( \sum_c G_c A_c \Big)^+ \\
    \text{LayerCAM (Jiang et al. 2021): } & M = \Big( \sum_c G_c^+ A_c \Big)^+ \\
    \text{Grad-CAM++ (Chattopadhay et al. 2018): } & M = \Big( \sum_c A_c \sum_{h,w} \alpha_c\, G_c^+ \Big)^+, \quad
    \alpha_c = \frac{G_c^2}{2 G_c^2 + G_c^3 \sum_{h,w} A_c + 10^{-6}} \\
    \text{XGrad-CAM (Fu et al. 2020): } & M = \Big( \sum_c A_c \,
        \frac{\sum_{h,w} G_c A_c}{\sum_{h,w} A_c + 10^{-6}} \Big)^+ \\
    \text{WGrad-CAM (Zhang, Rao and Yang 2021): } & M = \Big( \sum_c A_c \, \frac{1}{hw} \sum_{h,w} G_c A_c \Big)^+ \\
    \text{NormGrad (Rebuffi et al. 2020): } & M = \Big( \sum_c A_c^2 \Big)^{1/2} \Big( \sum_c G_c^2 \Big)^{1/2}

The readings, the last ReLU included, are those of the package pytorch-grad-cam: Grad-CAM++ of the logit itself, where
its authors take the exponential of it. Behind a mean over positions and a linear layer, G is the same everywhere, and
XGrad-CAM is Grad-CAM.

Of WGrad-CAM there is no public code, and its abstract says that the feature map weighs its gradient. Ours is the
simplest weight that this can mean: XGrad-CAM's without the division. UCAG's Table 3 allows it: on ResNet-50 it prints
the same numbers for Grad-CAM and XGrad-CAM, and others for WGrad-CAM, whose weight keeps the mean of A.

Each is an ``ActivationMap``: what shows one calls it, what combines several takes its ``signed`` form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper

from torch import Tensor

from relmap.errors import InputError
from relmap.network.graph import Graph, Operation
from relmap.network.layouts import FeatureMaps, feature_maps, layout_of


class ActivationMap:
    """A class activation map: the positive part of what a function ``signed`` of features and gradient gives."""

    def __init__(self, signed: Callable[[Tensor, Tensor], Tensor]) -> None:
        update_wrapper(self, signed)
        self.signed = signed

    def __call__(self, features: Tensor, gradient: Tensor) -> Tensor:
        return self.signed(features, gradient).relu()


@ActivationMap
def grad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Features (N, C, h, w) and the gradient of the target's logit there to a map (N, h, w)."""
    return (features * gradient.mean((2, 3), keepdim=True)).sum(1)


@ActivationMap
def hires_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """As ``grad_cam``, each position by its own gradient."""
    return (features * gradient).sum(1)


@ActivationMap
def layer_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """As ``hires_cam``, by the positive gradient alone."""
    return (features * gradient.relu()).sum(1)


@ActivationMap
def grad_cam_pp(features: Tensor, gradient: Tensor) -> Tensor:
    """As ``grad_cam``, each channel by a weighted sum of its positive gradients."""
    positive = gradient.relu()  # of others the weight is 0, and their denominator may be too
    total = features.sum((2, 3), keepdim=True)
    alpha = positive**2 / (2 * positive**2 + total * positive**3 + 1e-6)
    return (features * (alpha * positive).sum((2, 3), keepdim=True)).sum(1)


@ActivationMap
def xgrad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """As ``grad_cam``, each channel by the mean of its gradient under its features as weights."""
    weight = (gradient * features).sum((2, 3), keepdim=True) / (features.sum((2, 3), keepdim=True) + 1e-6)
    return (features * weight).sum(1)


@ActivationMap
def wgrad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """As ``grad_cam``, each channel by the mean of its gradient times its features."""
    return (features * (gradient * features).mean((2, 3), keepdim=True)).sum(1)


@ActivationMap
def norm_grad(features: Tensor, gradient: Tensor) -> Tensor:
    """As ``grad_cam``, lengths over the channels of features and of gradient, multiplied: it has no sign."""
    return features.norm(dim=1) * gradient.norm(dim=1)


def last_feature_map(graph: Graph) -> str:
    """Name of the operation whose output is the last feature map: its positions are mixed no more but to be collapsed.

    Of the operations that every way to the logits crosses, the last with several positions that the logits depend on:
    ``features.29`` in torchvision's VGG-16, the last ReLU of ``layer4`` in its ResNets, as in TorchRay, the last
    block's sum in ConvNeXt. Pools and rearrangements after it belong to the collapse. Where the logits are read off one
    token, it is the map before the last layer that mixes tokens.

    A model may say otherwise, by the name of an operation in its attribute ``last_feature_map``: where linear layers
    are slid as convolutions, positions do not tell features from classes.

    Raises:
        InputError: there is none, or its channels and positions are not known.
    """
    if graph.feature_map:
        return graph[graph.feature_map].name
    found = feature_maps(graph)
    name, one_read = graph.output.name, False
    while name != graph.operations[0].name:
        name, after = graph.dominators[name], name
        if name == graph.operations[0].name:
            break
        if not _has_positions(found, name):
            continue
        between = [graph[other] for other in graph.between(name, after)]
        if any(_mixes(found, operation) for operation in between):
            one_read = False
        elif any(_reads_one(found, operation) for operation in between):
            one_read = True
        if not one_read:
            return _what_computed_it(graph, found, name)
    raise InputError("this model has no feature map that its classifier pools, flattens or reads; name the layer")


def stage_before(graph: Graph, layer: str) -> str:
    """Name of the operation with which the last stage before a feature map's resolution begins.

    Of the operations that every way crosses, the first of the map's resolution if it is a pool (``features.23`` of
    VGG-16, as in TorchRay), else the last of another resolution (``layer3`` of a ResNet, as in TorchRay). The map
    itself where the resolution never changes.
    """
    found = feature_maps(graph)
    grid, first = layout_of(graph, layer).grid, layer
    name = graph.dominators[layer]
    while name != graph.operations[0].name:
        layout = found.get(name)
        if layout is not None:
            if layout.grid != grid:
                return first if graph[first].kind in _POOLS else _unmoved(graph, found, name)
            first = name
        name = graph.dominators[name]
    return layer


_POOLS = ("average_pool", "max_pool")


def last_map_before(graph: Graph, layer: str) -> str:
    """Name of the operation whose output is the last map of the resolution before that of a feature map.

    ``features.22`` of VGG-16 and ``layer3`` of a ResNet, where the authors of NormGrad read it: ``stage_before``,
    behind its pool. The map itself where the resolution never changes.
    """
    name = stage_before(graph, layer)
    return layer if name == layer else _what_computed_it(graph, feature_maps(graph), name)


def _has_positions(found: FeatureMaps, name: str) -> bool:
    """Whether an output has several positions, known or not."""
    shape = found.shapes[name]
    return len(shape) > 2 and (sum(size > 1 for size in shape[1:]) > 1 or found.get(name) is not None)


def _reads_one(found: FeatureMaps, operation: Operation) -> bool:
    """Whether this takes one position out of several."""
    return (
        operation.kind == "reshape"
        and _has_positions(found, operation.inputs[0])
        and not _has_positions(found, operation.name)
        and found.shapes[operation.name].numel() < found.shapes[operation.inputs[0]].numel()
    )


def _mixes(found: FeatureMaps, operation: Operation) -> bool:
    """Whether an output's position depends on several of the input."""
    if operation.kind == "linear":
        source = operation.inputs[0]
        layout = found.get(source)
        return _has_positions(found, source) and (layout is None or layout.channels != -1)
    spread = operation.kind == "conv" and operation.affine.weight.shape[2:].numel() > 1
    return spread or operation.kind == "matmul"


def _what_computed_it(graph: Graph, found: FeatureMaps, name: str) -> str:
    """Name of the operation behind pools and rearrangements."""
    while (behind := _unmoved(graph, found, name)) and graph[behind].kind in _POOLS:
        name = graph[behind].inputs[0]
    layout_of(graph, behind)
    return behind


def _unmoved(graph: Graph, found: FeatureMaps, name: str) -> str:
    """Name of the operation whose output this one only rearranges."""
    while (
        graph[name].kind in ("reshape", "identity")
        and found.shapes[name].numel() == found.shapes[graph[name].inputs[0]].numel()
    ):
        name = graph[name].inputs[0]
    return name
