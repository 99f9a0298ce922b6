"""One engine for relevance: trace a model once, run it once, walk its operations backwards by a table of rules."""

from relmap.propagation import composites, starts
from relmap.propagation.composites import Composite
from relmap.propagation.engine import Activations, Propagation, Propagator, Walk
from relmap.propagation.graph import Graph, Operation
from relmap.propagation.tracing import trace

__all__ = [
    "Activations",
    "Composite",
    "Graph",
    "Operation",
    "Propagation",
    "Propagator",
    "Walk",
    "composites",
    "starts",
    "trace",
]
