"""Import torchvision beside a CPU-only torch, and without its costliest dependency.

The registry's torchvision wheel is built for CUDA. Beside a CPU build of torch its compiled operators do not load, and
the import fails because two of them are unknown. relmap uses none of them, so declaring their schemas is enough.

``torchvision.ops`` imports torch's compiler only to ask whether it is supported, which doubles the start of every job;
where the compiler is not loaded yet, a stand-in answers no during the import and is gone afterwards.

Use ``from relmap.torchvision_shim import torchvision``.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    if not hasattr(torch.ops.torchvision, _schema.split("(")[0]):
        _LIBRARY.define(_schema)


@contextmanager
def _without_compiler() -> Iterator[None]:
    if "torch._dynamo" in sys.modules:
        yield
        return
    package, utils = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")
    package.__path__, package.utils = [], utils
    utils.is_compile_supported = lambda device: False
    sys.modules.update({"torch._dynamo": package, "torch._dynamo.utils": utils})
    try:
        yield
    finally:
        for name in ("torch._dynamo", "torch._dynamo.utils"):
            del sys.modules[name]


with _without_compiler():
    import torchvision

__all__ = ["torchvision"]
