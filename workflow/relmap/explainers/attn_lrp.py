r"""AttnLRP (Achtibat et al. 2024): LRP through vision transformers, from the logit of the target.

.. math::
    \text{linear, } z = Wx + b: \quad & \text{LRP-gamma, } \gamma = 0 \text{ for LRP-epsilon} \\
    \text{product } o = ab: \quad & R_a = a \Big[\frac{\partial o}{\partial a}\Big]^T \frac{R}{2\,\mathrm{st}(o)}
        \quad\text{(the uniform rule)} \\
    \text{softmax } s(x): \quad & R_i = x_i \Big( R_i - s_i \sum_j R_j \Big)
        \quad\text{(its Taylor expansion at } x\text{)} \\
    \text{layer norm, GELU}: \quad & \text{the identity}; \qquad
    \text{residual addition}: \quad R_k = x_k R / \textstyle\sum_m x_m

The rules of attention are the defaults of relmap's whole LRP family on transformers (``rules.attention``); what the
method adds is one gamma for the patch embedding, a convolution, and one for the linear layers, which the authors find
to make maps of vision transformers clear: theirs are of a grid of (0.1, 0.25, 100) by (0, 0.01, 0.05, 0.1, 1), ours the
middle. The softmax and biases take relevance up, so a map's total is not the logit.
"""

from __future__ import annotations

from relmap.explainers.base import Relevance
from relmap.propagation import Composite, Propagator, composites
from relmap.propagation.rules import Gamma
from relmap.propagation.rules.abslrp_attention import require_attention


class AttnLRP(Relevance):
    """AttnLRP.

    Args:
        propagator: of a network with attention.
        gamma: of linear layers; 0 is LRP-epsilon.
        conv_gamma: of convolutions, the patch embedding.
        start: key of ``starts.STARTS``; None for the one that makes positive relevance speak for the class.

    Raises:
        InputError: a network without attention, or a negative gamma.
    """

    def __init__(
        self, propagator: Propagator, *, gamma: float = 0.05, conv_gamma: float = 0.25, start: str | None = None
    ) -> None:
        require_attention(propagator.graph, "AttnLRP")
        super().__init__(propagator, attn_lrp_rules(gamma, conv_gamma), start)


def attn_lrp_rules(gamma: float, conv_gamma: float) -> Composite:
    """Its rules; batch norms, where there are any, are folded or as linear layers."""
    linear = Gamma(gamma)
    return Composite(
        composites.stabilised_structure() | {"linear": linear, "batch_norm": linear, "conv": Gamma(conv_gamma)}
    )
