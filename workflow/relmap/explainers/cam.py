r"""Grad-CAM (Selvaraju et al. 2017) at the last feature map of a network.

.. math:: M = \Big( \sum_c A_c \, \frac{1}{hw} \sum_{h,w} \frac{\partial z_t}{\partial A_c} \Big)^+
"""

from __future__ import annotations

from torch import Tensor

from relmap.errors import InputError
from relmap.network import Graph


def grad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Features (N, C, h, w) and the gradient of the target's logit there to a map (N, h, w) that is not negative."""
    return (features * gradient.mean((2, 3), keepdim=True)).sum(1).relu()


def last_feature_map(graph: Graph) -> str:
    """Name of the operation whose output is the last feature map: what is pooled or flattened for the classifier.

    ``features.29`` in torchvision's VGG-16, the last ReLU of ``layer4`` in its ResNets, as in TorchRay. Of a network
    that flattens nothing, its last pool's input.

    Raises:
        InputError: the model neither flattens nor pools a feature map.
    """
    before = graph.preprocessing()
    flat = next(
        (operation for operation in graph if operation.kind == "reshape" and operation.name not in before), None
    )
    if flat is None:
        flat = next((o for o in reversed(graph.operations) if o.kind in ("average_pool", "max_pool")), None)
    if flat is None:
        raise InputError("this model has no flattened or pooled feature map; name the layer")
    operation = graph[flat.inputs[0]]
    while operation.kind in ("average_pool", "max_pool"):
        operation = graph[operation.inputs[0]]
    return operation.name
