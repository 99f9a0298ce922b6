"""relmap: relevance maps of image classifiers, and the evidence about them.

    >>> import relmap
    >>> maps = relmap.explain(model, images, method="abslrp")

``explain`` and ``compare`` make maps, ``methods`` lists what by, ``Propagator`` shares one forward pass between
methods, ``conservation`` says where relevance leaks. Nothing is imported before it is used.
"""

import importlib

_FACE = {
    "explain": "relmap.explanation",
    "compare": "relmap.explanation",
    "methods": "relmap.explanation",
    "conservation": "relmap.inspection.leakage",
    "Propagator": "relmap.propagation",
    "InputError": "relmap.errors",
    "RelevanceWarning": "relmap.errors",
}

__all__ = list(_FACE)


def __getattr__(name: str):
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    raise AttributeError(f"module 'relmap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACE])
