r"""Average drop and average increase (Chattopadhay et al. 2018): what the class loses when the map masks the picture.

.. math::
    E = x \circ M, \qquad \mathrm{drop} = \frac{\max(0,\, p(x) - p(E))}{p(x)}, \qquad
    \mathrm{increase} = [\, p(E) > p(x) \,]

with p the softmax probability of the target and M the map's positive part over its maximum. The picture is masked in
normalised space, so that what a map leaves out becomes the mean colour. A map without positive part masks everything.

Rows ``average_drop`` and ``average_increase``; their means over pairs are the published numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor, nn

from relmap.metrics.local_lipschitz import attribution
from relmap.metrics.prediction import target_probabilities

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``average_drop`` and ``average_increase``."""
    masks = attribution(case.of(maps)).to(case.device)
    both = drops(case.model, case.images, masks, case.targets, case.batch_size)
    rows = [case.tidy(method, *each) for each in zip(("average_drop", "average_increase"), both, strict=True)]
    return pd.concat(rows, ignore_index=True)


def drops(
    model: nn.Module, images: Tensor, masks: Tensor, targets: Tensor, batch_size: int = 64
) -> tuple[Tensor, Tensor]:
    """Drop, and whether the probability rises, of each picture.

    Args:
        model: a classifier in evaluation mode.
        images: (N, C, H, W), normalised.
        masks: (N, H, W) from 0 to 1.
        targets: (N,).
        batch_size: pictures of one forward pass.

    Returns:
        Two (N,) float64: from 0 to 1, and 0 or 1.
    """
    whole = target_probabilities(model, targets, lambda places: images[places], batch_size)
    masked = target_probabilities(model, targets, lambda places: masked_pictures(images, masks, places), batch_size)
    # A probability that underflows to 0 has nothing to lose.
    drop = (whole - masked).clamp(min=0) / whole.masked_fill(whole == 0, 1)
    return drop, (masked > whole).double()


def masked_pictures(images: Tensor, masks: Tensor, places: Tensor) -> Tensor:
    """The pictures at these places times their masks."""
    return images[places] * masks[places, None].to(images.dtype)
