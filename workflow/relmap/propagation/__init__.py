"""Relevance through a traced model: run it once, walk its operations backwards by a table of rules."""

from relmap.propagation import composites, starts
from relmap.propagation.composites import Composite
from relmap.propagation.engine import Activations, Propagation, Propagator, Walk

__all__ = ["Activations", "Composite", "Propagation", "Propagator", "Walk", "composites", "starts"]
