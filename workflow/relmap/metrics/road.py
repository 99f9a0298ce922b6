r"""ROAD (Rong et al. 2022): is the network still right when pixels are imputed from their neighbours?

Of a picture's P pixels, ordered by the channel-summed map, :math:`n_p = \lfloor p P / 100 \rfloor` are the most
relevant p percent. MoRF removes them, so that a good map makes accuracy fall early. LeRF keeps them and removes all
others, as in the authors' code, so that a good map keeps accuracy high. What is removed is imputed linearly, see
:mod:`relmap.metrics.imputation`, so that its shape tells less than a constant would, and gets Gaussian noise: of
standard deviation .01, in units in which pictures lie in [0, 1]. Noise follows from the seed, the picture and the level
alone, the same in both orders and of all methods.

Rows ``road_morf`` and ``road_lerf``, whether the class that the network is surest of is the target; their level is p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.job.seeds import generator
from relmap.metrics.imputation import linear_imputation
from relmap.metrics.prediction import top_classes
from relmap.metrics.ranking import entry_ranks

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

ORDERS = ("road_morf", "road_lerf")


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows of both orders, of the first images of the case."""
    settings = case.settings["road"]
    case = case if settings["images"] is None else case.of_first_images(settings["images"])
    ids = case.pairs["image_id"].tolist()
    percents = settings["percents"]
    spread = settings["noise"] / torch.tensor(case.preprocessing.std).view(-1, 1, 1)

    def noise(pair: int, level: int) -> Tensor:
        draws = generator(case.seed, "road", ids[pair], percents[level])
        return spread * torch.randn(len(spread), *case.images.shape[2:], generator=draws)

    found = road_predictions(
        case.model,
        case.images,
        case.of(maps),
        percents,
        noise if settings["noise"] else None,
        case.settings["ties"],
        case.batch_size,
    )
    right = found == case.targets.view(-1, 1, 1)
    return pd.concat(
        [case.tidy(method, name, right[:, place], percents) for place, name in enumerate(ORDERS)], ignore_index=True
    )


def removed(ranks: Tensor, wanted: Tensor, least_relevant_first: Tensor) -> Tensor:
    """Which pixels are imputed.

    Args:
        ranks: (B, H, W), most relevant first, as ``ranking.entry_ranks`` gives them.
        wanted: (B,) numbers :math:`n_p` of most relevant pixels.
        least_relevant_first: (B,) bool, LeRF.

    Returns:
        (B, H, W) bool.
    """
    return (ranks < wanted.view(-1, 1, 1)) != least_relevant_first.view(-1, 1, 1)


def pixels_at(percent: float, total: int) -> int:
    """So many percent of ``total`` pixels, in whole ones, rounded down.

    Raises:
        InputError: none or all of them, or more.
    """
    if not 0 < percent < 100:
        raise InputError(f"config: `evaluation.road.percents` holds {percent:g}; give percents between 0 and 100")
    # What falls short of a whole number by rounding only is that number.
    return int(percent * total / 100 + 1e-9)


def road_predictions(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    percents: Sequence[float],
    noise: Callable[[int, int], Tensor] | None = None,
    ties: str = "strict",
    batch_size: int = 64,
) -> Tensor:
    """The class predicted at each level, in both orders.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K).
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance.
        percents: L levels p.
        noise: of a picture and a level, by their places: (C, H, W), normalised; it is added where pixels are imputed.
            None for no noise.
        ties: ``strict`` or ``at_once``, see :mod:`relmap.metrics.ranking`. Where all pixels are one tie, MoRF leaves
            nothing to impute from: the data's mean.
        batch_size: images imputed and seen at a time. It bounds the memory and does not change the result.

    Returns:
        (N, 2, L) int64 on the images' device: MoRF, LeRF.

    Raises:
        ValueError: maps do not fit the images.
        InputError: another rule of ties, a level outside (0, 100); a map, or a score that the model gives, is not
            finite.
    """
    if maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    levels, device = len(percents), images.device
    wanted = torch.tensor([pixels_at(p, maps[0].numel()) for p in percents], device=device) if len(maps) else None
    ranks = entry_ranks(maps.to(device), ties)

    def imputed(positions: Tensor) -> Tensor:
        # Both orders of a picture and a level follow each other: they share their noise.
        image, level, order = positions // (2 * levels), positions // 2 % levels, positions % 2
        missing = removed(ranks[image], wanted[level], order == 1)
        filled = linear_imputation(images[image], missing)
        if noise is None:
            return filled
        places, own = torch.unique_consecutive(positions // 2, return_inverse=True)
        drawn = torch.stack([noise(*divmod(place, levels)) for place in places.tolist()]).to(filled)
        return filled.addcmul_(drawn[own], missing.unsqueeze(1))

    found = top_classes(model, len(images) * levels * 2, imputed, device, batch_size)
    return found.view(len(images), levels, 2).transpose(1, 2)
