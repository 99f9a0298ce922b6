r"""LeGrad (Bousselham et al. 2024): how the attention of each layer forms what the classifier reads.

With the attention :math:`A_l` of layer l, (heads, T, T), and :math:`\bar z_l` the mean over the tokens of what block l
gives, which the network's own last layers read as if it were the last block's:

.. math::
    s_l = \mathrm{classifier}_t(\bar z_l), \qquad
    E_l = \frac{1}{\text{heads} \cdot T} \sum_{h,i} \Big( \frac{\partial s_l}{\partial A_l} \Big)^{\!+}_{h,i,\cdot},
    \qquad M = \frac{1}{L - s} \sum_{l \ge s} E_l

The gradient goes through block l alone, from its output to its attention; the classifier is the last norm and the
layers behind it. The reading is that of the authors' code for networks with a class token (WalBouss/LeGrad), which
takes the mean of all tokens; their map is then brought to [0, 1], ours is not. They begin with the last layers of large
networks; ours with the layer ``start_layer``, by default the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.attention import ClassRow
from relmap.explainers.tokens import attention_weights
from relmap.network import Graph
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Activations, Propagator, composites


class LeGrad(ClassRow):
    """Positive gradients of all layers' attention from ``start_layer`` on.

    Args:
        propagator: of a vision transformer.
        start_layer: the first layer that counts, from 0.

    Raises:
        InputError: as ``ClassRow``, or blocks that do not end in a residual addition.
    """

    of_class_token = False

    def __init__(self, propagator: Propagator, *, start_layer: int = 0) -> None:
        super().__init__(propagator, start_layer)
        graph = propagator.graph
        ends = [*attention_weights(graph)[start_layer + 1 :], graph.output.name]
        self.blocks = [_block_of(graph, weights, before) for weights, before in zip(self.weights, ends, strict=True)]
        self.gradient = propagator.by(composites.gradient())
        self.walks, self.keep = (self.gradient,), (*self.weights, *self.blocks)

    def row(self, activations: Activations, targets: Tensor, place: int | None) -> Tensor:
        total: Tensor | float = 0.0
        for weights, block in zip(self.weights, self.blocks, strict=True):
            start = self._formed(activations, targets, block)
            gradient = self.gradient.propagate(activations, start, at=block, stop=weights).relevance
            total = total + gradient.clamp(min=0).mean((2, 3))
        return total / len(self.weights)

    @torch.inference_mode(False)
    def _formed(self, activations: Activations, targets: Tensor, block: str) -> Tensor:
        """Gradient of the targets' scores (K, N) at a block's output, (K, N, T, D): that of the mean of its tokens."""
        tokens = activations.outputs[block]
        with torch.enable_grad():
            mean = tokens.detach().clone().mean(1).requires_grad_()
            scores = pooled_scores(self._classified(activations, mean[:, None].expand_as(tokens)))
            parts = [
                torch.autograd.grad(scores.gather(1, each[:, None]).sum(), mean, retain_graph=True)[0]
                for each in targets
            ]
        count = tokens.shape[1]
        return (torch.stack(parts) / count)[:, :, None].expand(-1, -1, count, -1)

    def _classified(self, activations: Activations, tokens: Tensor) -> Tensor:
        """What the layers behind the last block make of tokens (N, T, D)."""
        graph = self.propagator.graph
        live = {self.blocks[-1]: tokens}
        wanted = graph.between(self.blocks[-1], graph.output.name)
        read = {name for each in wanted for name in (*graph[each].inputs, *graph[each].constants)}
        for operation in graph:
            if operation.name in wanted or (operation.kind == "parameter" and operation.name in read):
                bound = operation.bound(live, activations.shapes)
                live[operation.name] = bound.run(*(live[name] for name in operation.inputs))
        return live[graph.output.name]


def _block_of(graph: Graph, weights: str, before: str) -> str:
    """Name of the residual addition that ends a layer of attention's block: the last before the next layer's."""
    name = graph.dominators[before]
    while graph[name].kind != "add" or weights not in graph.behind(name):
        if name == graph.operations[0].name:
            raise InputError(f"the block around {weights!r} ends in no addition that all that follows reads")
        name = graph.dominators[name]
    return name
