r"""Finer-CAM (Zhang et al. 2025): a class activation map of what sets the target apart from the classes most like it.

.. math::
    s = \frac{\sum_d y_d \, (z_t - \alpha z_d)}{\sum_d y_d}, \qquad
    G = \frac{\partial s}{\partial A} \text{ with the } y_d \text{ held}, \qquad
    M = \Big( \sum_k A_k \, \frac{1}{hw} \sum_{h,w} G_k \Big)^{\!+}

The classes d are the ``similar`` ones whose logits are nearest to the target's, and :math:`y = \mathrm{softmax}(z)`
weighs them, as in the authors' code (Imageomics/Finer-CAM); the paper's equation is of one class d, and holds for each.
The code takes the gradient of the weights :math:`y_d` too, which the paper does not write; ours holds them, so that the
map is the mean of the paper's. With ``alpha`` 0 it is Grad-CAM. Any class activation map of ``explainers.cam`` may be
read off the gradient in place of Grad-CAM's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relmap.errors import InputError
from relmap.explainers.baselines import BaselineMap
from relmap.network.score_maps import pooled_scores, spread
from relmap.propagation import Activations, Propagator, starts


class FinerCAM(BaselineMap):
    """The class activation map of the target's logit less those of similar classes.

    Args:
        propagator: of the model.
        similar: how many classes the target is set against; all others where there are fewer.
        alpha: how much they count.
        baseline, layer: as for ``BaselineMap``; one that reads a feature map.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        similar: int = 3,
        alpha: float = 1.0,
        baseline: str = "grad_cam",
        layer: str | None = None,
    ) -> None:
        if similar < 1:
            raise InputError(f"Finer-CAM: similar is {similar}; give at least 1 class")
        super().__init__(propagator, baseline=baseline, layer=layer)
        self.similar, self.alpha = similar, alpha

    def relevance(self, activations: Activations, targets: Tensor) -> Tensor:
        start = torch.stack([self._start(activations.logits, each) for each in targets])
        return self.walk.propagate(activations, start, stop=self.layer).relevance

    def _start(self, logits: Tensor, targets: Tensor) -> Tensor:
        """1 at the target (N,), minus alpha among the similar classes by their probabilities, as the logits lie."""
        scores = pooled_scores(logits)
        one = starts.one_hot(scores, targets)
        if scores.shape[1] == 1:
            return spread(one, logits)
        gaps = (scores - scores.gather(1, targets[:, None])).abs().masked_fill(one > 0, torch.inf)
        nearest = gaps.topk(min(self.similar, scores.shape[1] - 1), dim=1, largest=False).indices
        weights = scores.gather(1, nearest).softmax(1)  # of probabilities that are brought to a sum of 1
        return spread(one.scatter(1, nearest, -self.alpha * weights), logits)
