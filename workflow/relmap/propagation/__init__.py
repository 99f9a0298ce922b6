"""One engine for relevance: trace a model once, run it once, walk its operations backwards by a table of rules."""

from relmap.propagation import composites, starts
from relmap.propagation.engine import Activations, Propagation, Propagator
from relmap.propagation.graph import Graph, Operation, trace

__all__ = ["Activations", "Graph", "Operation", "Propagation", "Propagator", "composites", "starts", "trace"]
