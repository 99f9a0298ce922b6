r"""The leaderboard: methods ranked by every number, mean ranks over settings, agreement between numbers.

A setting is a data set, a network and a number (a column of a metric's row) that counts. Settings have different sets
of methods, so a method's *place* in one is the share of the other methods that are better, (r - 1) / (number of
others), 0 for the best and 1 for the last; a mean over settings is over those that have the method.

*Intervals* are percentiles of a bootstrap over images: what would change with other images of the same data sets. Data
sets are drawn independently, networks and numbers of a data set together. Means that lie close together change places
in samples, so an interval of ranks reaches from its rank towards the middle rather than to both sides alike.

*Friedman's test and Nemenyi's critical difference* (Demsar 2006) take settings as the sample: what would change with
other settings. They need a table without holes, and get the largest: of the sets of methods that some settings share,
the one with the most cells. With k methods, N settings and mean ranks R_j,

.. math:: \chi^2_F = \frac{12 N}{k (k + 1)} \sum_j \Big(R_j - \frac{k + 1}{2}\Big)^2, \qquad
    CD = q_{\alpha} \sqrt{\frac{k (k + 1)}{6 N}},

the first with a correction for ties and against chi-squared with k - 1 degrees of freedom, q the studentised range's
quantile (infinitely many degrees of freedom) over the root of 2. Two methods differ at the level alpha when their mean
ranks differ by CD at least. Both assume that settings are independent; those of a run share images and networks, so p
is too small and CD too: a bound, not a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

from relmap.catalogue.rows import rank
from relmap.evidence.rankings import Board, kendall, limits, ranks, rivals, shared

STANDINGS = (
    *("dataset", "model", "metric", "method", "control", "mean", "mean_low", "mean_high", "chance"),
    *("best_control", "above_control", "above_control_low", "above_control_high", "rank", "rank_low", "rank_high"),
    *("n_methods", "n_images", "n_pairs", "left_out", "counted"),
)
_ABOVE = ("above_control", "above_control_low", "above_control_high")
_BLOCK = ("block_rank", "block_methods", "block_settings", "friedman", "friedman_p", "critical_difference")
RANKS = (
    *("scope", "method", "control", "settings", "place", "place_low", "place_high", "rank", "rank_low", "rank_high"),
    *_BLOCK,
)
AGREEMENT = ("dataset", "model", "first", "second", "settings", "methods", "tau", "tau_low", "tau_high")
ALL = "all"
# Fewer methods have no order to speak of.
FEWEST = 3


def standings(boards: Sequence[Board], resampled: Sequence[np.ndarray], confidence: float) -> pd.DataFrame:
    """Every method's mean and rank in every board, on the images that all its methods have.

    Args:
        boards: of the run.
        resampled: their means in bootstrap samples, as ``rankings.resampled`` gives them.
        confidence: coverage of the intervals.

    Returns:
        The columns of ``STANDINGS``. Limits of means and of differences are of the same bootstrap samples. chance is
        the number's, where it is known; above_control, the difference to the best control, is positive where a method
        is better, whichever way that is. A control's rank is the one that it would have among the methods, n_methods
        are without controls, left_out are the pairs that not all methods have.
    """
    parts = []
    for board, means in zip(boards, resampled, strict=True):
        own = board.means()
        low, high = limits(ranks(means, board.controls), confidence)
        mean_limits = np.sort(board.sign * limits(means, confidence), axis=0)
        part = {
            "dataset": board.dataset,
            "model": board.model,
            "metric": board.column.id,
            "method": board.methods,
            "control": board.controls,
            "mean": board.sign * own,
            "mean_low": mean_limits[0],
            "mean_high": mean_limits[1],
            "chance": np.nan if board.column.chance is None else board.column.chance,
            **_above_controls(board, own, means, confidence),
            "rank": ranks(own, board.controls),
            "rank_low": low,
            "rank_high": high,
            "n_methods": len(board.proper),
            "n_images": len(np.unique(board.images)),
            "n_pairs": len(board.images),
            "left_out": board.left_out,
            "counted": board.column.counted,
        }
        parts.append(pd.DataFrame(part).sort_values(["rank", "method"], kind="stable"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(STANDINGS))


def _above_controls(board: Board, own: np.ndarray, means: np.ndarray, confidence: float) -> dict[str, np.ndarray | str]:
    """By how much each method is better than the best control, on the same images; nothing of a board without any."""
    if not board.controls.any():
        return {"best_control": "", **dict.fromkeys(_ABOVE, np.nan)}
    best = np.flatnonzero(board.controls)[own[board.controls].argmax()]
    low, high = limits(means - means[:, [best]], confidence)
    return {"best_control": board.methods[best], **dict(zip(_ABOVE, (own - own[best], low, high), strict=True))}


def mean_ranks(
    boards: Sequence[Board], resampled: Sequence[np.ndarray], confidence: float, level: float = 0.05
) -> pd.DataFrame:
    """Mean places and ranks over settings, of all settings together and of each number by itself.

    Args:
        boards, resampled, confidence: as of :func:`standings`.
        level: of Nemenyi's critical difference.

    Returns:
        The columns of ``RANKS``: scope is ``all`` or the number; place and rank are means over the settings that have
        the method; block_rank is the mean rank in the largest table without holes, for the methods in it.
    """
    found = []
    for board, means in zip(boards, resampled, strict=True):
        if board.column.counted and len(board.proper) > 1:
            own = np.vstack([board.means(), means])
            found.append(_Setting(board, ranks(own, board.controls)))
    numbers = sorted({setting.board.column.id for setting in found}, key=rank)
    scopes = {ALL: found} | {name: [s for s in found if s.board.column.id == name] for name in numbers}
    parts = [_mean_ranks(scope, own, confidence, level) for scope, own in scopes.items() if own]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(RANKS))


@dataclass(frozen=True, eq=False)
class _Setting:
    """A board with its ranks, (1 + resamples, M), the first row those of all images."""

    board: Board
    ranks: np.ndarray

    def of(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Ranks and places of one method, (1 + resamples,) each."""
        at = self.board.methods.index(method)
        own = self.ranks[:, at]
        return own, (own - 1) / rivals(self.board.controls)[at]


def _mean_ranks(scope: str, settings: Sequence[_Setting], confidence: float, level: float) -> pd.DataFrame:
    controls: dict[str, bool] = {}
    for setting in settings:
        controls |= dict(zip(setting.board.methods, setting.board.controls.tolist(), strict=True))
    rows = []
    for method, control in controls.items():
        having = [setting.of(method) for setting in settings if method in setting.board.methods]
        mean_rank, place = (np.mean([own[which] for own in having], axis=0) for which in (0, 1))
        (rank_low, place_low), (rank_high, place_high) = limits(np.stack([mean_rank, place], 1)[1:], confidence)
        rows.append(
            {
                "scope": scope,
                "method": method,
                "control": control,
                "settings": len(having),
                "place": place[0],
                "place_low": place_low,
                "place_high": place_high,
                "rank": mean_rank[0],
                "rank_low": rank_low,
                "rank_high": rank_high,
            }
        )
    table = pd.DataFrame(rows).sort_values(["place", "method"], kind="stable", ignore_index=True)
    return table.merge(_friedman(settings, level), how="left", on="method")


def _friedman(settings: Sequence[_Setting], level: float) -> pd.DataFrame:
    """Of the methods of the largest table without holes: mean ranks there, Friedman's test, critical difference."""
    methods, chosen = largest_block([frozenset(np.array(s.board.methods)[s.board.proper]) for s in settings])
    if not methods:
        return pd.DataFrame(columns=["method", *_BLOCK])
    table = []
    for place in chosen:
        at = [settings[place].board.methods.index(method) for method in methods]
        table.append(ranks(-settings[place].ranks[0, at], np.zeros(len(at), dtype=bool)))
    within = np.array(table)
    statistic, p = friedmanchisquare(*within.T)
    difference = critical_difference(len(methods), len(chosen), level)
    found = [
        (m, r, *within.shape[::-1], statistic, p, difference) for m, r in zip(methods, within.mean(0), strict=True)
    ]
    return pd.DataFrame(found, columns=["method", *_BLOCK])


def critical_difference(methods: int, settings: int, level: float = 0.05) -> float:
    """Nemenyi's: by how much mean ranks of two methods must differ."""
    quantile = studentized_range.ppf(1 - level, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * settings)))


def largest_block(sets: Sequence[frozenset[str]]) -> tuple[list[str], list[int]]:
    """The largest table without holes: methods (sorted) and settings that have them all.

    Args:
        sets: methods of each setting.

    Returns:
        Of the intersections of some sets, of at least three methods in at least two settings, the one with the most
        cells; among equals the one of more settings. Empty where there is none.
    """
    meets: set[frozenset[str]] = set()
    for own in dict.fromkeys(sets):
        meets |= {own} | {own & other for other in meets}
        meets = {meet for meet in meets if len(meet) >= FEWEST}
    blocks = [(sorted(meet), [place for place, own in enumerate(sets) if meet <= own]) for meet in meets]
    blocks = [block for block in blocks if len(block[1]) > 1]
    return max(blocks, key=lambda b: (len(b[0]) * len(b[1]), len(b[1]), b[0]), default=([], []))


def agreement(boards: Sequence[Board], resampled: Sequence[np.ndarray], confidence: float) -> pd.DataFrame:
    """Kendall's tau between the orders in which two numbers put the methods, on one data set and network.

    Args:
        boards, resampled, confidence: as of :func:`standings`.

    Returns:
        The columns of ``AGREEMENT``; methods counts those that both have, without controls. Last, with dataset and
        model ``all``, the means over the settings that have both numbers and an order by each.
    """
    found, samples = [], {}
    for (one, means), (other, others) in combinations(zip(boards, resampled, strict=True), 2):
        if (one.dataset, one.model) != (other.dataset, other.model):
            continue
        a, b = shared(one, other)
        if len(a) < FEWEST:
            continue
        tau = float(kendall(one.means()[a], other.means()[b]))
        drawn = kendall(means[:, a], others[:, b])
        pair = one.column.id, other.column.id
        found.append((one.dataset, one.model, *pair, 1, len(a), tau, *limits(drawn, confidence)))
        if not np.isnan(tau):
            samples.setdefault(pair, []).append((tau, len(a), drawn))
    found += [(ALL, ALL, *pair, *_mean_tau(own, confidence)) for pair, own in samples.items()]
    return pd.DataFrame(found, columns=list(AGREEMENT))


def _mean_tau(own: Sequence[tuple[float, int, np.ndarray]], confidence: float) -> tuple[float, ...]:
    """Settings, the fewest methods of any, mean tau and its interval."""
    taus, methods, drawn = zip(*own, strict=True)
    low, high = limits(np.mean(drawn, axis=0), confidence)
    return len(own), min(methods), float(np.mean(taus)), float(low), float(high)
