"""Import torchvision beside a CPU-only torch.

The registry's torchvision wheel is built for CUDA. Beside a CPU build of torch its compiled operators do not load, and
the import fails because two of them are unknown. relmap uses none of them, so declaring their schemas is enough.
Use ``from relmap.torchvision_shim import torchvision``.
"""

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    if not hasattr(torch.ops.torchvision, _schema.split("(")[0]):
        _LIBRARY.define(_schema)

import torchvision  # noqa: E402

__all__ = ["torchvision"]
