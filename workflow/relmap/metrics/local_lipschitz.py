r"""Local Lipschitz estimate (Alvarez-Melis and Jaakkola 2018): how far a map moves when its picture hardly does.

.. math:: \hat L(x) = \max_d \frac{\|\phi(x + \epsilon_d) - \phi(x)\|_2}{\|\epsilon_d\|_2},
    \qquad \epsilon_d \sim N(0, \sigma^2 I)

over draws d of noise on the normalised picture, :math:`\sigma = .1`; the class stays the pair's target, and the noise
may leave the range of valid inputs, which rules with a z-box are therefore given wider, for both maps. A map
:math:`\phi` has one channel, its positive part, divided by its maximum; one without positive part is 0. The estimate
grows with the number of draws, so that it is said beside every number. A constant map has 0; one of standard normal
numbers that are drawn anew, 1.123 at 224 x 224 pixels and one draw, as published for Random (absLRP, Table 7).

Rows ``local_lipschitz``; their level is a number of draws, their value the maximum over so many. The last is the
estimate, those before show what more draws do.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relmap.errors import InputError, RelevanceWarning
from relmap.explanation import as_propagator, explain
from relmap.job.seeds import generator
from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import by_chunks

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case
    from relmap.propagation import Propagator


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``local_lipschitz`` of the first images of the case.

    Raises:
        InputError: the case has no row of the method, which a map of another picture needs.
    """
    if method not in case.methods:
        raise InputError(f"local_lipschitz: no row of method {method} is known to the case: none can explain anew")
    settings = case.settings["local_lipschitz"]
    part = case if settings["images"] is None else case.of_first_images(settings["images"])
    draws = settings["draws"]
    ids, ratios = part.pairs["image_id"].tolist(), torch.empty(len(part.pairs), draws, dtype=torch.float64)
    if ids:
        propagator = part.once(_propagator)

        def attributed(images: Tensor, targets: Tensor) -> Tensor:
            with warnings.catch_warnings():
                # A map that is 0 everywhere is what is measured.
                warnings.simplefilter("ignore", RelevanceWarning)
                row = case.methods[method]
                return attribution(explain(propagator, images, targets, row, batch_size=case.batch_size))

        before = attributed(part.images, part.targets)
        # Whole batches, whatever the numbers of pairs and draws.
        for places in torch.arange(ratios.numel()).split(case.batch_size):
            noise = torch.stack(
                [_noise(part, ids[place // draws], place % draws, settings["deviation"]) for place in places.tolist()]
            ).to(case.device)
            pairs = (places // draws).to(case.device)
            after = attributed(part.images[pairs] + noise, part.targets[pairs])
            ratios.view(-1)[places] = lipschitz_ratios(before[pairs], after, noise).cpu()
    return part.tidy(method, "local_lipschitz", ratios.cummax(1).values, range(1, draws + 1))


def attribution(maps: Tensor) -> Tensor:
    """Positive parts of maps (N, H, W), divided by their maximum; 0 where nothing is positive.

    Raises:
        InputError: a map is not finite.
    """
    positive = as_relevance(maps).clamp(min=0)
    largest = positive.amax((1, 2), keepdim=True)
    return positive / largest.masked_fill(largest == 0, 1)


def lipschitz_ratios(before: Tensor, after: Tensor, noise: Tensor) -> Tensor:
    """Distances of maps over distances of pictures.

    Args:
        before, after: (N, ...) maps of a picture, and of the picture with noise.
        noise: (N, ...), not 0.

    Returns:
        (N,) float64.
    """

    def ratio(before: Tensor, after: Tensor, noise: Tensor) -> Tensor:
        distance = (after.double() - before.double()).flatten(1).norm(dim=1)
        return distance / noise.double().flatten(1).norm(dim=1)

    return by_chunks(ratio, before, after, noise)


def _propagator(case: Case) -> Propagator:
    """The network, traced once for all methods, with a range of valid inputs that leaves room for noise."""
    model, room = copy.copy(case.model), 8 * case.settings["local_lipschitz"]["deviation"]
    if getattr(model, "input_range", None) is not None:
        low, high = model.input_range
        model.input_range = tuple(value - room for value in low), tuple(value + room for value in high)
    return as_propagator(model, case.images)


def _noise(case: Case, image_id: str, draw: int, deviation: float) -> Tensor:
    """One draw (C, H, W), on the CPU: of an image whatever the others, its target and the method."""
    draws = generator(case.seed, "local_lipschitz", image_id, draw)
    return deviation * torch.randn(case.images.shape[1:], generator=draws)
