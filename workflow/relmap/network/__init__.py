"""A model as a flat graph of operations: tracing, vocabulary, graph, affine layers, attention."""

from relmap.network.graph import Graph, Operation
from relmap.network.tracing import trace

__all__ = ["Graph", "Operation", "trace"]
