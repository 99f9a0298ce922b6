"""Propagation rules: one file per family, each opening with its equation.

A rule is called with what the forward pass kept of one operation and the relevance of its output, and returns the
relevance of each of its inputs. Relevance has a leading dimension K: K starts share one forward pass.
"""

from relmap.propagation.rules.alpha_beta import AlphaBeta
from relmap.propagation.rules.attention import Halves, SoftmaxTaylor
from relmap.propagation.rules.base import Record, Rule
from relmap.propagation.rules.epsilon import Epsilon
from relmap.propagation.rules.flat import Flat
from relmap.propagation.rules.gamma import Gamma
from relmap.propagation.rules.gradients import Gradient, LocalGradient, ReluGradient
from relmap.propagation.rules.structure import Embed, Pass, PassToCarriers, Reshape, Share, Split, Winner
from relmap.propagation.rules.z_box import Bounds, ZBox

__all__ = [
    "AlphaBeta",
    "Bounds",
    "Embed",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gradient",
    "Halves",
    "LocalGradient",
    "Pass",
    "PassToCarriers",
    "Record",
    "ReluGradient",
    "Reshape",
    "Rule",
    "Share",
    "SoftmaxTaylor",
    "Split",
    "Winner",
    "ZBox",
]
