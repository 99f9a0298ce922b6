r"""Focus (Arias-Duart et al. 2022): in a mosaic of four pictures, two of them of the target, where does relevance lie?

.. math:: F = \frac{\sum_{i \in T} R_i^+}{\sum_i R_i^+}

over pixels i of a mosaic, T those of the two tiles that are of the target class, R the map that explains the target.
Chance is 1/2; a constant map has exactly that. A map without a positive pixel points nowhere and has 0.

Each pair's picture is a tile of mosaics of its own, with another picture of its target and two without it, of two
different classes, in random places. Pictures are drawn from those that the run evaluates, of one size; a draw follows
from the seed, the pair and which pictures there are, not from their order. Pairs that are absent from their picture,
that have no other picture of their target, or no two of other classes, have NaN, whatever the method.

``tiles`` says how large they are: ``full``, a mosaic of twice the network's input, as published; ``half``, each tile at
half its size, by the mean of four pixels, for networks of a fixed input (ViT); ``auto``, full where the network takes
that and half elsewhere.

Rows ``focus``; their level is the number of the mosaic, of which a pair can have several. Columns say what was drawn:
``mosaic_0`` to ``mosaic_3``, the pictures by quadrant, row by row; ``target_tiles``, the two that count, and ``tiles``.
The published table has the mean over mosaics; the metric's authors report the median, which the rows give as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.errors import InputError, RelevanceWarning
from relmap.explanation import as_propagator, explain
from relmap.job.seeds import derive
from relmap.metrics.checks import as_relevance
from relmap.metrics.chunks import by_chunks

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case
    from relmap.propagation import Propagator

TILES = ("auto", "full", "half")
QUADRANTS = 4


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows ``focus``. The maps are made anew, of the mosaics.

    Raises:
        InputError: the case has no row of the method.
    """
    if method not in case.methods:
        raise InputError(f"focus: no row of method {method} is known to the case, so that none can explain mosaics")
    drawn, count = case.once(_drawn), case.settings["focus"]["mosaics"]
    values = np.full((len(case.pairs), count), np.nan)
    for places in np.array_split(drawn.answered, max(1, -(-len(drawn.answered) * count // case.batch_size))):
        if not len(places):
            continue
        chosen = torch.from_numpy(drawn.pictures[places]).to(case.device).flatten(0, 1)
        inside = torch.from_numpy(drawn.of_target[places]).to(case.device).flatten(0, 1)
        targets = case.targets[torch.from_numpy(places).to(case.device)].repeat_interleave(count)
        with warnings.catch_warnings():
            # A map that is 0 everywhere is what is measured.
            warnings.simplefilter("ignore", RelevanceWarning)
            found = explain(
                drawn.propagator,
                mosaics(case.images[chosen], drawn.tiles),
                targets,
                case.methods[method],
                batch_size=case.batch_size,
            )
        values[places] = focus(found, inside).view(-1, count).cpu().numpy()
    rows = case.tidy(method, "focus", values, range(count))
    return pd.concat([rows, drawn.columns], axis=1)


def focus(maps: Tensor, of_target: Tensor) -> Tensor:
    """The share of positive relevance that lies in the target's tiles.

    Args:
        maps: (M, H, W) relevance of mosaics, signed, H and W even.
        of_target: (M, 4) bool, which quadrants, row by row, are of the target.

    Returns:
        (M,) float64; 0 where a map has no positive pixel.

    Raises:
        ValueError: shapes do not fit.
        InputError: a map is not finite.
    """
    height, width = maps.shape[1:]
    if of_target.shape != (len(maps), QUADRANTS) or height % 2 or width % 2:
        raise ValueError(f"maps {tuple(maps.shape)} must be mosaics, and of_target {tuple(of_target.shape)} (M, 4)")

    def share(maps: Tensor, of_target: Tensor) -> Tensor:
        positive = maps.clamp(min=0).double()
        sums = positive.unflatten(2, (2, -1)).unflatten(1, (2, -1)).sum((2, 4)).flatten(1)
        total = sums.sum(1)
        return (sums * of_target).sum(1) / total.masked_fill(total == 0, 1)

    return by_chunks(lambda of_target, maps: share(maps, of_target), of_target.to(maps.device), as_relevance(maps))


def mosaics(pictures: Tensor, tiles: str = "full") -> Tensor:
    """Four pictures in one.

    Args:
        pictures: (M, 4, C, H, W), by quadrant, row by row.
        tiles: ``full`` or ``half``.

    Returns:
        (M, C, 2 H, 2 W), or (M, C, H, W).

    Raises:
        InputError: half of an odd side.
    """
    if tiles == "half":
        height, width = pictures.shape[-2:]
        if height % 2 or width % 2:
            raise InputError(
                f"focus: pictures of {height} x {width} pixels have no half; give the network an even input"
            )
        pictures = F.avg_pool2d(pictures.flatten(0, 1), 2).unflatten(0, pictures.shape[:2])
    upper, lower = (torch.cat([pictures[:, place], pictures[:, place + 1]], -1) for place in (0, 2))
    return torch.cat([upper, lower], -2)


def draw(
    image_ids: Sequence[str], labels: Sequence[tuple[int, ...]], targets: Sequence[int], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of mosaics, ``count`` for each of N pairs.

    Args:
        image_ids: pictures of the pairs; a picture may be of several.
        labels: the pictures' classes. Among those of other classes, a picture counts for its first.
        targets: of the pairs.
        count: mosaics of a pair.
        seed: of the run.

    Returns:
        Places among the pairs by quadrant, (N, count, 4), -1 for pairs without an answer; which are of the target,
        (N, count, 4) bool.
    """
    first = {image: place for place, image in reversed(list(enumerate(image_ids)))}
    pool = [first[image] for image in sorted(first)]
    candidates = {target: _candidates(pool, labels, target) for target in set(targets)}
    chosen = np.full((len(image_ids), count, QUADRANTS), -1)
    of_target = np.zeros(chosen.shape, dtype=bool)
    for pair, (image, target) in enumerate(zip(image_ids, targets, strict=True)):
        same, others = candidates[target]
        partners = [place for place in same if place != first[image]]
        if target not in labels[pair] or not partners or len(others) < 2:
            continue
        for mosaic in range(count):
            generator = np.random.default_rng(derive(seed, "focus", image, target, mosaic))
            classes = generator.choice(len(others), 2, replace=False)
            tiles = [first[image], *(int(generator.choice(some)) for some in (partners, *(others[c] for c in classes)))]
            places = generator.permutation(QUADRANTS)
            chosen[pair, mosaic], of_target[pair, mosaic] = np.array(tiles)[places], places < 2
    return chosen, of_target


def _candidates(
    pool: Sequence[int], labels: Sequence[tuple[int, ...]], target: int
) -> tuple[list[int], list[list[int]]]:
    """Of the pictures of a pool, those of the target, and those without it, by their first class."""
    others: dict[int, list[int]] = {}
    for place in pool:
        if target not in labels[place] and labels[place]:
            others.setdefault(labels[place][0], []).append(place)
    return [place for place in pool if target in labels[place]], [others[label] for label in sorted(others)]


@dataclass(frozen=True)
class _Drawn:
    """What the methods of a case share.

    Attributes:
        pictures, of_target: (N, mosaics, 4), as ``draw`` gives them.
        answered: places of the pairs that have mosaics.
        columns: what was drawn, in the order of the rows.
        tiles: ``full`` or ``half``.
        propagator: the network, traced at the mosaics' size.
    """

    pictures: np.ndarray
    of_target: np.ndarray
    answered: np.ndarray
    columns: pd.DataFrame
    tiles: str
    propagator: Propagator | None


def _drawn(case: Case) -> _Drawn:
    settings, ids = case.settings["focus"], case.pairs["image_id"].tolist()
    labels = [tuple(own) for own in case.manifest.label_sets(case.rows)]
    pictures, of_target = draw(ids, labels, case.pairs["target"].tolist(), settings["mosaics"], case.seed)
    answered = np.flatnonzero((pictures >= 0).all((1, 2)))
    tiles = tiles_of(case.model, settings["tiles"], case.images[:1])
    names = np.append(np.array(ids, dtype=object), None)[pictures].reshape(-1, QUADRANTS)
    counted = ["".join(str(q) for q in np.flatnonzero(own)) or None for own in of_target.reshape(-1, QUADRANTS)]
    drawn = {f"mosaic_{place}": names[:, place] for place in range(QUADRANTS)} | {"target_tiles": counted}
    columns = pd.DataFrame({name: pd.array(values, "string") for name, values in drawn.items()}).assign(tiles=tiles)
    channels, height, width = case.images.shape[1:]
    scale = 2 if tiles == "full" else 1
    like = case.images.new_zeros(1, channels, scale * height, scale * width)
    propagator = as_propagator(case.model, like) if len(answered) else None
    return _Drawn(pictures, of_target, answered, columns, tiles, propagator)


@torch.inference_mode()
def tiles_of(model: nn.Module, tiles: str, image: Tensor) -> str:
    """``full`` or ``half``: what ``auto`` is for a network, from whether it takes an image (1, C, H, W) twice as large.

    Raises:
        InputError: another size than ``TILES``.
    """
    if tiles not in TILES:
        raise InputError(f"config: `evaluation.focus.tiles` is {tiles!r}; choose one of {', '.join(TILES)}")
    if tiles != "auto":
        return tiles
    try:
        model(mosaics(image.unsqueeze(1).expand(-1, QUADRANTS, -1, -1, -1)))
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError, ValueError):
        # How networks refuse a size: by an assertion, or a shape that does not fit.
        return "half"
    return "full"
