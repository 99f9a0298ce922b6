r"""Methods put in order by their means on the same images; resampled orders, and how far two orders agree.

A board is one published number on one data set and network: the values of M methods for the P pairs of image and target
that all of them have. A bootstrap sample draws the images of a data set, all boards of the data set from the same
draws, so that what depends on two boards, or two methods, keeps their dependence.

A method's rank is one more than the number of methods that are better; ties count half:

.. math:: r_m = 1 + \#\{j : b_j > b_m\} + \tfrac12 \#\{j \ne m : b_j = b_m\},

j over the methods proper. A control gets the rank that it would have among them, and moves none of them. Kendall's tau
(his tau-b, which allows for ties) of two orders a, b, over pairs of methods i < j:

.. math:: \tau = \frac{\sum \mathrm{sgn}(a_i - a_j)\, \mathrm{sgn}(b_i - b_j)}
    {\sqrt{\sum \mathrm{sgn}(a_i - a_j)^2 \sum \mathrm{sgn}(b_i - b_j)^2}}.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from relmap.catalogue.metrics import Column
from relmap.catalogue.rows import Rows, rank
from relmap.evidence.statistics import drawn_counts
from relmap.evidence.values import PAIR, classes_of, images_of

# Means that differ by rounding only are equal: decimals that are kept of them, relative to the largest.
_DECIMALS = 12
# Of each class of a board: the rows of its images, and what they add up to, (rows, M) and (rows,).
Totals = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Board:
    """One published number of several methods on one data set and network.

    Attributes:
        dataset, model: ids.
        column: how the number is read.
        methods: M ids.
        controls: (M,) whether each is a control.
        images: (P,) image of each pair.
        classes: (P,) class of each pair; all 0 where the mean is over pairs.
        values: (P, M), higher is better: the negative of what is printed where lower is better.
        left_out: pairs that some methods have a value of and others do not.
    """

    dataset: str
    model: str
    column: Column
    methods: tuple[str, ...]
    controls: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    values: np.ndarray
    left_out: int = 0

    @property
    def sign(self) -> int:
        """What turns ``values`` into the printed number and back."""
        return 1 if self.column.higher_is_better else -1

    @property
    def proper(self) -> np.ndarray:
        """Places of the methods that are no controls."""
        return np.flatnonzero(~self.controls)

    @property
    def key(self) -> tuple[str, str, str]:
        """Data set, network and published number."""
        return self.dataset, self.model, self.column.id

    def means(self) -> np.ndarray:
        """(M,), higher is better."""
        names = np.unique(self.images)
        return means_of(totals(self, names), np.ones((1, len(names))))[0]


def boards(scores: pd.DataFrame, known: Rows) -> list[Board]:
    """All boards of some per-pair values, as tables order them; none where no pair has a value.

    A number that is another's change against one method has the other's order, and gets none.

    Args:
        scores: as ``tables.image_scores`` gives them.
        known: the run's rows.
    """
    columns = known.columns()
    places = scores.groupby(["dataset", "model", "metric"])
    groups = {place: own for place, own in places if not columns[place[2]][1].against}
    found = []
    for dataset, model, metric in sorted(groups, key=lambda key: rank(*key)):
        table = groups[dataset, model, metric].pivot(index=PAIR, columns="method", values="value").astype(float)
        table = table.dropna(axis=1, how="all").dropna(how="all").sort_index()
        joint = table.dropna()
        if len(joint):
            column = columns[metric][1]
            classes = classes_of(joint) if column.mean == "classes" else np.zeros(len(joint), dtype=int)
            controls = np.array([is_control(method, known) for method in joint])
            sign = 1 if column.higher_is_better else -1
            values = sign * joint.to_numpy()
            left_out = len(table) - len(joint)
            methods = tuple(joint.columns)
            found += [Board(dataset, model, column, methods, controls, images_of(joint), classes, values, left_out)]
    return found


def is_control(method: str, known: Rows) -> bool:
    """Whether a method's row says so."""
    return method in known.methods and known.methods[method].control


def totals(board: Board, names: np.ndarray) -> Totals:
    """Sums and counts of a board's values by class and image, for images by their places in ``names`` (sorted)."""
    found = []
    for kind in np.unique(board.classes):
        of_kind = board.classes == kind
        rows, own = np.unique(np.searchsorted(names, board.images[of_kind]), return_inverse=True)
        sums = np.zeros((len(rows), len(board.methods)))
        np.add.at(sums, own, board.values[of_kind])
        found.append((rows, sums, np.bincount(own).astype(float)))
    return found


def means_of(of_classes: Totals, weights: np.ndarray) -> np.ndarray:
    """Means when each image counts as often as its weight says; mean of the classes' means, which have any.

    Args:
        of_classes: as :func:`totals` gives them.
        weights: (R, images).

    Returns:
        (R, M); NaN where no image counts.
    """
    total, classes = np.zeros((len(weights), of_classes[0][1].shape[1])), np.zeros((len(weights), 1))
    for rows, sums, counts in of_classes:
        own = weights[:, rows]
        seen = (own @ counts)[:, None]
        total += np.divide(own @ sums, seen, out=np.zeros_like(total), where=seen > 0)
        classes += seen > 0
    return np.divide(total, classes, out=np.full_like(total, np.nan), where=classes > 0)


def resampled(given: Sequence[Board], resamples: int, seed: int) -> list[np.ndarray]:
    """Means of each board in bootstrap samples of the images of its data set, (resamples, M) each.

    A data set's draws follow from its id and the seed, whatever other data sets there are.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(given)
    for dataset in dict.fromkeys(board.dataset for board in given):
        places = [place for place, board in enumerate(given) if board.dataset == dataset]
        names = np.unique(np.concatenate([given[place].images for place in places]))
        of_boards = [totals(given[place], names) for place in places]
        draws = drawn_counts(len(names), resamples, [seed, zlib.crc32(dataset.encode())])
        parts = [[means_of(one, weights) for one in of_boards] for weights in draws]
        for place, means in zip(places, zip(*parts, strict=True), strict=True):
            found[place] = np.concatenate(means)
    return found


def ranks(means: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Ranks of M methods, 1 the best; NaN where a mean is.

    Args:
        means: (..., M), higher is better.
        controls: (M,) which are ranked beside the others.
    """
    own = settled(means)
    rivals = own[..., ~controls]
    better = (rivals[..., None, :] > own[..., :, None]).sum(-1)
    equal = (rivals[..., None, :] == own[..., :, None]).sum(-1) - ~controls  # itself
    return np.where(np.isnan(own), np.nan, 1 + better + equal / 2)


def rivals(controls: np.ndarray) -> np.ndarray:
    """(M,) how many methods each is ranked against."""
    return np.where(controls, (~controls).sum(), (~controls).sum() - 1)


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's tau-b along the last axis; NaN where all are equal in either, or a value is NaN.

    Args:
        first, second: (..., M).
    """
    i, j = np.triu_indices(first.shape[-1], 1)
    a, b = (np.sign(own[..., i] - own[..., j]) for own in (settled(first), settled(second)))
    norm = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    agreed = (a * b).sum(-1)
    return np.divide(agreed, norm, out=np.full(np.shape(agreed), np.nan), where=norm > 0)


def settled(means: np.ndarray) -> np.ndarray:
    """Means relative to the largest of the last axis, rounded, so that what differs by rounding only is equal."""
    size = np.abs(means).max(-1, keepdims=True, initial=0)
    return np.round(np.divide(means, size, out=np.array(means, dtype=float), where=size > 0), _DECIMALS)


def limits(samples: np.ndarray, confidence: float) -> np.ndarray:
    """Lower and upper limit, (2, ...), of bootstrap samples along the first axis; what is NaN is left out."""
    tail = [(1 - confidence) / 2, (1 + confidence) / 2]
    flat = samples.reshape(len(samples), -1)
    unknown = np.isnan(flat).any(axis=0)
    found = np.full((2, flat.shape[1]), np.nan)
    found[:, ~unknown] = np.quantile(flat[:, ~unknown], tail, axis=0)
    # Rare, and slow by numpy's own function for NaN.
    for place in np.flatnonzero(unknown & ~np.isnan(flat).all(axis=0)):
        found[:, place] = np.nanquantile(flat[:, place], tail)
    return found.reshape(2, *samples.shape[1:])


def shared(first: Board, second: Board) -> tuple[np.ndarray, np.ndarray]:
    """Places of the methods, controls left out, that two boards have, in each."""
    wanted = [method for place, method in enumerate(first.methods) if not first.controls[place]]
    both = [method for method in wanted if method in second.methods]
    return tuple(np.array([board.methods.index(m) for m in both], dtype=int) for board in (first, second))
