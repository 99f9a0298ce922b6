r"""Minimal pairs: where is relevance, where one thing alone decides what the network says?

x is a picture of class y that the network classifies rightly, :math:`x_c` the same after one change c and nothing else
(``relmap.data.render.minimal_pairs``), :math:`D_c` the pixels that the network sees differently, :math:`f_t` the logit
of class t, :math:`\delta_c = f_y(x) - f_y(x_c)` what the change takes from the class, :math:`M^t` the map of x that
explains t. The pictures differ in :math:`D_c` alone: whatever the network makes of the change, it saw there. Of a map

.. math:: r_c(t) = \frac{\sum_{i \in D_c} M^t_i}{\sum_i |M^t_i|}, \qquad
    d_c = \frac{\sum_{i \in D_c} |M^y_i| / |D_c|}{\sum_i |M^y_i| / |x|}

are its net share and its density there; of a map that is 0 everywhere both are 0. What differs by the rounding of sums
only, ten decimals, is equal.

A part p that varies in a family is shown as in y's sibling s that differs in p alone. It *tells* where the network
classifies both rightly, x as y and :math:`x_p` as s: it then has used :math:`D_p`, on x for y and against s.

- ``target_sensitivity``: the part speaks for y more than for s, :math:`[r_p(y) > r_p(s)]`, ties a half, mean over the
  parts that tell. FunnyBirds (Hesse et al. 2023) asks the like of classes that share parts. Chance 1/2: a method that
  knows no target ties, and one that guesses does as well with targets exchanged.
- ``target_shift``: how much of the map's change lies at the part, with
  :math:`\Delta = M^y / \sum |M^y| - M^s / \sum |M^s|`,

  .. math:: \frac{q - a}{1 - a}, \qquad q = \frac{\sum_{i \in D_p} |\Delta_i|}{\sum_i |\Delta_i|},
      \quad a = \frac{|D_p|}{|x|}.

  1 where the map changes there alone. Chance 0: it changes everywhere alike, or not at all.
- ``part_importance_plain``: Spearman's correlation :math:`\rho_{r \delta}`, over all parts that show, of
  :math:`r_c(y)` and :math:`\delta_c` (FunnyBirds' single deletion, with another look in the place of deletion; parts
  that do not vary get a look that no sibling has). Its mean over permutations of the parts is 0, but large parts matter
  more: a constant map, which knows their area a alone, has far more than that. ``part_importance`` is what is left at
  equal area,

  .. math:: \frac{\rho_{r \delta} - \rho_{r a}\, \rho_{\delta a}}
      {\sqrt{(1 - \rho_{r a}^2)(1 - \rho_{\delta a}^2)}}.

  1 where relevance orders the parts as the logit does. Chance 0, which a constant map has, and any that orders the
  parts by area or not at all.
- ``background_independence``: things behind the bird (a branch; blossoms and berries in the birds' colours) that hardly
  matter have less relevance a pixel than a part that tells, :math:`[d_b < d_p]`, ties a half, mean over all b and p
  with :math:`|\delta_b| \le \tau \delta_p`. That the network does not need b is so measured, not assumed
  (FunnyBirds' background independence; BAM, Yang and Kim 2019). Chance 1/2, which a constant map has; a blob in the
  middle has more, for birds are there.
- ``distractor_independence``: the same of parts of the bird that hardly matter (FunnyBirds' distractibility). Chance
  1/2.

A picture that has no such pair has NaN, whatever the method. All maps of a picture are made anew, in one pass, so that
a method that tells no classes apart has ties.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from relmap.data.images import Preprocessing, fitted_colours, load_pixels
from relmap.data.render.birds import PARTS
from relmap.data.render.cub_writer import REMOVABLE
from relmap.data.render.minimal_pairs import Changed, minimal_pairs
from relmap.errors import RelevanceWarning
from relmap.evidence.evaluation import pairs_of_images, rows_of
from relmap.explanation import as_propagator, compare
from relmap.models.inference import class_scores

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

THINGS = (*PARTS, *REMOVABLE)
"""The columns of all tables here; the first, the background, stays empty."""

NUMBERS = (
    *("target_sensitivity", "target_shift", "part_importance", "part_importance_plain"),
    *("background_independence", "distractor_independence"),
)
_BEHIND = np.array([thing in REMOVABLE for thing in THINGS])
# Fewer have no order to speak of.
_FEWEST_PARTS = 3
_DECIMALS = 10


@dataclass(frozen=True, eq=False)
class Effects:
    """What changes do to the network, by picture and thing, (P, T); NaN where a picture has no such change.

    Attributes:
        drop: of the class's logit.
        area: share of the pixels that differ.
        tells: bool, whether it makes a sibling of the bird, and the network classifies both rightly.
    """

    drop: np.ndarray
    area: np.ndarray
    tells: np.ndarray


@dataclass(frozen=True, eq=False)
class Relevance:
    """What a method's maps have where pictures change, (P, T) each; NaN where a picture has no such change.

    Attributes:
        net: share of the class's map, signed.
        density: mean absolute relevance of the class's map, over its mean in the picture.
        of_sibling: as ``net``, of the sibling's map; NaN where the change does not tell.
        shift: share of the maps' difference, above chance; likewise.
    """

    net: np.ndarray
    density: np.ndarray
    of_sibling: np.ndarray
    shift: np.ndarray


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows of ``NUMBERS``; NaN but of the first pictures of each class that the network classifies rightly.

    Raises:
        InputError: the pictures were not rendered here.
    """
    settings = case.settings["minimal_pairs"]
    chosen = f"image_id in {known_images(case, settings['pictures'])}"
    part = case.where(chosen)
    values = dict.fromkeys(NUMBERS, np.empty(0))
    if len(part.pairs):
        measured = part.once(_measured)
        values = numbers(measured.effects, measured.relevance[method], settings["unimportant"])
    rows = [case.tidy(method, name, case.where_else_nan(chosen, values[name])) for name in NUMBERS]
    return pd.concat(rows, ignore_index=True)


def known_images(case: Case, count: int | None) -> list[str]:
    """Ids of ``count`` images (all for None) of all groups that the network classifies rightly, evenly over classes."""
    everything = case.among_all
    right = everything[everything["present"] & everything["correct"]]["image_id"].drop_duplicates()
    ranks = case.manifest.rank_in_class(rows_of(case.manifest, right.tolist()))
    return sorted(right.iloc[np.argsort(ranks, kind="stable")[:count]])


def numbers(effects: Effects, relevance: Relevance, unimportant: float) -> dict[str, np.ndarray]:
    """``NUMBERS`` of P pictures, (P,) float64 each, by name; NaN of pictures that have no answer.

    Args:
        effects, relevance: of the same pictures.
        unimportant: a change hardly matters that moves the logit by at most this share of what a part that tells does.
    """
    parts = ~_BEHIND & ~np.isnan(effects.drop)
    behind = _BEHIND & ~np.isnan(effects.drop)
    # Pairs of things, (P, T, T): the first index is the thing, the second the part that it is compared with.
    hardly = np.abs(effects.drop)[:, :, None] <= unimportant * effects.drop[:, None, :]
    hardly &= effects.tells[:, None, :] & ~np.eye(len(THINGS), dtype=bool)
    density, net = np.round(relevance.density, _DECIMALS), np.round(relevance.net, _DECIMALS)
    less = _won(density[:, None, :], density[:, :, None])
    return {
        "target_sensitivity": _mean(_won(net, np.round(relevance.of_sibling, _DECIMALS)), effects.tells),
        "target_shift": _mean(relevance.shift, effects.tells),
        "part_importance": partial_correlation(net, effects.drop, effects.area, parts),
        "part_importance_plain": rank_correlation(net, effects.drop, parts),
        "background_independence": _mean(less, hardly & behind[:, :, None]),
        "distractor_independence": _mean(less, hardly & parts[:, :, None]),
    }


def _won(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 where the first is greater, 1/2 where both are equal, else 0."""
    return (1 + np.sign(first - second)) / 2


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(P,) means of the entries of each picture that count; NaN where none does."""
    values, counted = values.reshape(len(values), -1), counted.reshape(len(counted), -1)
    count = counted.sum(1)
    total = np.where(counted, values, 0).sum(1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def rank_correlation(first: np.ndarray, second: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(P,) Spearman's correlations along rows of (P, T), over the entries that count.

    0 where all entries of either are equal; NaN of rows with fewer than three.
    """
    ranks = [rankdata(np.where(counted, own, np.nan), axis=1, nan_policy="omit") for own in (first, second)]
    count = counted.sum(1, keepdims=True)
    # Ranks of n entries have the mean (n + 1) / 2.
    a, b = (np.where(counted, own - (count + 1) / 2, 0) for own in ranks)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    found = np.divide((a * b).sum(1), size, out=np.zeros(len(a)), where=size > 0)
    return np.where(count[:, 0] >= _FEWEST_PARTS, found, np.nan)


def partial_correlation(first: np.ndarray, second: np.ndarray, held: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(P,) ``rank_correlation`` of two at equal ``held``; 0 where either is ordered by that alone, up or down."""
    plain, a, b = (rank_correlation(*pair, counted) for pair in ((first, second), (first, held), (second, held)))
    # Correlations of equal orders miss 1 by rounding.
    room = np.round((1 - a * a) * (1 - b * b), _DECIMALS)
    found = np.divide(plain - a * b, np.sqrt(room), out=np.zeros(len(plain)), where=room > 0)
    return np.where(np.isnan(plain), np.nan, found.clip(-1, 1))


@dataclass(frozen=True, eq=False)
class _Measured:
    """What the methods of a case share: effects on the network, and each method's relevance."""

    effects: Effects
    relevance: dict[str, Relevance]


@dataclass(frozen=True, eq=False)
class Changes:
    """C changes of P pictures as the network sees them.

    Attributes:
        picture, thing: (C,) place of the picture, and of the changed thing among ``THINGS``.
        sibling: (C,) class that the changed bird is of, -1 where of none.
        pixels: (C, 3, H, W) uint8 before normalisation.
        differs: (C, H, W) bool.
    """

    picture: np.ndarray
    thing: np.ndarray
    sibling: np.ndarray
    pixels: Tensor
    differs: Tensor

    def table(self, values: np.ndarray, count: int) -> np.ndarray:
        """(P, T) float64 of P = ``count`` pictures with the values (C,) of the changes, NaN where there is none."""
        found = np.full((count, len(THINGS)), np.nan)
        found[self.picture, self.thing] = values
        return found


def _measured(case: Case) -> _Measured:
    """Render, ask the network, and explain."""
    stored = load_pixels(case.manifest, case.rows, case.preprocessing, case.workers)
    changes = seen_changes(case.preprocessing, minimal_pairs(case.manifest, case.rows), stored)
    count = len(stored)
    targets = case.targets.cpu()
    drop, tells = answers(case.model, case.preprocessing, stored, changes, targets, case.batch_size)
    effects = Effects(
        changes.table(drop, count),
        changes.table(changes.differs.double().mean((1, 2)).numpy(), count),
        changes.table(tells, count) == 1,
    )
    given = {row: case.artifacts.get(method, {}) for method, row in case.methods.items()}
    images = case.preprocessing.normalise(stored)
    blank = np.full((count, len(THINGS)), np.nan)
    relevance = {m: Relevance(*(blank.copy() for _ in range(4))) for m in case.methods}
    propagator = as_propagator(case.model, images)
    for places, asked, some in _batches(targets.numpy(), changes, tells, case.batch_size):
        with warnings.catch_warnings():
            # A map that is 0 everywhere is what is measured.
            warnings.simplefilter("ignore", RelevanceWarning)
            found = compare(propagator, images[places].to(case.device), asked, given, batch_size=len(places))
        for method, maps in found.items():
            _fill(relevance[method], maps, asked, places, changes, some, tells)
    return _Measured(effects, relevance)


def answers(
    model: nn.Module, preprocessing: Preprocessing, stored: Tensor, changes: Changes, targets: Tensor, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a network says to C changes of P pictures (P, 3, H, W) of the classes ``targets`` (P,).

    Returns:
        What each takes from its class's logit, (C,) float64; whether it tells, (C,) bool.
    """
    before, after = (
        class_scores(model, map(preprocessing.normalise, pixels.split(batch_size))).double()
        for pixels in (stored, changes.pixels)
    )
    own = targets[changes.picture]
    drop = before[changes.picture, own] - after[torch.arange(len(own)), own]
    right = (before.argmax(1) == targets)[changes.picture].numpy()
    return drop.numpy(), right & (changes.sibling >= 0) & (after.argmax(1).numpy() == changes.sibling)


def seen_changes(preprocessing: Preprocessing, pictures: list[list[Changed]], stored: Tensor) -> Changes:
    """The changes that the network can see: a crop may cut one off.

    Args:
        preprocessing: of the network.
        pictures: the changes of P pictures.
        stored: (P, 3, H, W) uint8, as the network sees them.
    """
    flat = [(place, changed) for place, own in enumerate(pictures) for changed in own]
    pixels = torch.empty((len(flat), *stored.shape[1:]), dtype=torch.uint8)
    for entry, (_, changed) in zip(pixels, flat, strict=True):
        entry.copy_(torch.from_numpy(fitted_colours(changed.image, preprocessing).copy()).permute(2, 0, 1))
    picture = np.array([place for place, _ in flat], dtype=np.int64)
    differs = (pixels != stored[picture]).any(1)
    kept = differs.flatten(1).any(1).numpy()
    thing = np.array([THINGS.index(changed.thing) for _, changed in flat], dtype=np.int64)
    sibling = np.array([-1 if changed.sibling is None else changed.sibling for _, changed in flat], dtype=np.int64)
    return Changes(picture[kept], thing[kept], sibling[kept], pixels[kept], differs[kept])


def _batches(
    targets: np.ndarray, changes: Changes, tells: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, Tensor, np.ndarray]]:
    """What is explained at once: places of n pictures, their classes (n, K), the first y, and their changes.

    The other classes are the siblings that tell, in the order of the changes.
    """
    owners = np.concatenate([np.arange(len(targets)), changes.picture[tells]])
    wanted = np.concatenate([targets, changes.sibling[tells]])
    for of_pictures in pairs_of_images(owners.tolist()):
        step = max(1, batch_size // of_pictures.shape[1])
        for start in range(0, len(of_pictures), step):
            some = of_pictures[start : start + step]
            places = owners[some[:, 0]]
            yield places, torch.from_numpy(wanted[some]), np.flatnonzero(np.isin(changes.picture, places))


def _fill(
    relevance: Relevance,
    maps: Tensor,
    asked: Tensor,
    places: np.ndarray,
    changes: Changes,
    some: np.ndarray,
    tells: np.ndarray,
) -> None:
    """Put what maps (n, K, H, W) of pictures at ``places`` have at ``some`` changes into the tables."""
    maps = maps.double()
    total = maps.abs().sum((2, 3), keepdim=True)
    maps = maps / total.masked_fill(total == 0, 1)
    local = torch.from_numpy(np.searchsorted(places, changes.picture[some]))
    differs = changes.differs[some].to(maps.device)
    own = maps[local, 0]
    picture, thing = changes.picture[some], changes.thing[some]
    relevance.net[picture, thing] = (own * differs).sum((1, 2)).cpu().numpy()
    area = differs.double().mean((1, 2))
    relevance.density[picture, thing] = ((own.abs() * differs).sum((1, 2)) / area).cpu().numpy()
    told = torch.from_numpy(tells[some])
    sibling = torch.from_numpy(changes.sibling[some])[told]
    local = local[told]
    other = maps[local, (asked[local] == sibling[:, None]).int().argmax(1)]
    own, differs = own[told], differs[told]
    picture, thing = picture[told.numpy()], thing[told.numpy()]
    relevance.of_sibling[picture, thing] = (other * differs).sum((1, 2)).cpu().numpy()
    relevance.shift[picture, thing] = _shift((own - other).abs(), differs).cpu().numpy()


def _shift(change: Tensor, differs: Tensor) -> Tensor:
    """(m,) share of a change (m, H, W) of maps inside, less that of an even change, over the most that it could be."""
    total, area = change.sum((1, 2)), differs.double().mean((1, 2))
    share = (change * differs).sum((1, 2)) / total.masked_fill(total == 0, 1)
    room = (1 - area).masked_fill(area == 1, 1)
    return torch.where(total == 0, 0.0, (share - area) / room)
