r"""Occlusion (Zeiler and Fergus 2014): a pixel matters as much as the score drops when a grey patch covers it.

With q the patches that cover pixel p, and x without q the image with grey there,

.. math:: M_t(p) = \operatorname{mean}_{q \ni p} \big( z_t(x) - z_t(x \setminus q) \big)
"""

import torch
from relmap.explainers.base import Explainer


class Occlusion(Explainer):
    """Mean drop of the target's logit over the patches that cover a pixel; patches overlap by half."""

    def __init__(self, model, *, patch=8):
        self.model, self.patch = model, patch

    @torch.no_grad()
    def __call__(self, images, targets):
        maps = images.new_zeros(*targets.shape, *images.shape[2:])
        covered = images.new_zeros(images.shape[2:])
        before = self.model(images).gather(1, targets)
        for top in starts(images.shape[2], self.patch):
            for left in starts(images.shape[3], self.patch):
                place = ..., slice(top, top + self.patch), slice(left, left + self.patch)
                changed = images.clone()
                changed[place] = 0  # normalised images: the mean colour
                maps[place] += (before - self.model(changed).gather(1, targets))[:, :, None, None]
                covered[place] += 1
        return maps / covered


def starts(side, patch):
    """Where patches begin, the last one at the border."""
    return [*range(0, side - patch, max(1, patch // 2)), max(0, side - patch)]
