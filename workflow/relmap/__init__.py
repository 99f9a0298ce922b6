"""relmap: relevance maps of image classifiers, and the evidence about them.

    >>> import relmap
    >>> maps = relmap.explain(model, images, method="abslrp")
    >>> relmap.show(relmap.Explanation.of("resnet50", "photo.jpg", weights="resnet50.safetensors"))

``explain`` and ``compare`` make maps, ``methods`` lists what by, ``Propagator`` shares one forward pass between
methods, ``conservation`` says where relevance leaks. ``Explanation`` keeps the maps of several methods with what is to
be said of them, ``show`` draws it, ``load`` reads one that was saved. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relmap.errors import InputError, RelevanceWarning
    from relmap.explanation import compare, explain, methods
    from relmap.figures.contact import show
    from relmap.inspection.explanations import Explanation, load
    from relmap.inspection.leakage import conservation
    from relmap.propagation import Propagator

_FACE = {
    "explain": "relmap.explanation",
    "compare": "relmap.explanation",
    "methods": "relmap.explanation",
    "conservation": "relmap.inspection.leakage",
    "Explanation": "relmap.inspection.explanations",
    "load": "relmap.inspection.explanations",
    "show": "relmap.figures.contact",
    "Propagator": "relmap.propagation",
    "InputError": "relmap.errors",
    "RelevanceWarning": "relmap.errors",
}

__all__ = [
    "Explanation",
    "InputError",
    "Propagator",
    "RelevanceWarning",
    "compare",
    "conservation",
    "explain",
    "load",
    "methods",
    "show",
]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    raise AttributeError(f"module 'relmap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACE])
