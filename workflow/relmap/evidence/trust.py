r"""How far a number can be trusted, whatever it says of methods: of each number on each data set and network

- what controls score that know nothing of the trained network, beside the best and the median method, and the share of
  the methods that the best control beats or equals: where it is large, the number rewards something else than
  explaining;
- its resolution, the smallest difference of means that the run's images can tell apart: half the width of the paired
  bootstrap interval of a difference, the median over pairs of methods;
- the stability of the order: Kendall's tau between the orders by two disjoint random sets of n images each, its mean
  over draws, n an eighth, a quarter and half of the images; and the smallest of these n with a mean tau of at least .8;
- of numbers that are means or areas over levels, Kendall's tau between the order by all levels and by every second or
  third one, counted from the last: whether the steps are fine enough;
- what of it is drawn at random. Scores keep one draw of each pair, so its spread over seeds is not told apart from
  that over images: where every image has draws of its own, resolution and stability contain both.

Methods proper alone make up orders, medians and pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from relmap.catalogue.metrics import Column
from relmap.catalogue.rows import Rows
from relmap.evidence.leaderboard import FEWEST
from relmap.evidence.rankings import Board, boards, kendall, limits, means_of, settled, shared, totals
from relmap.evidence.statistics import area_under
from relmap.evidence.values import PAIR

STABLE = 0.8
SPLITS = 200
PARTS = {"eighth": 8, "quarter": 4, "half": 2}
THINNED = {"second": 2, "third": 3}
# Weights made at once; bounds the memory.
_ELEMENTS = 1 << 22


def metric_trust(
    given: Sequence[Board],
    resampled: Sequence[np.ndarray],
    confidence: float,
    known: Rows,
    levels: Mapping[tuple[str, str, str], Mapping[str, float]],
    seed: int = 0,
    splits: int = SPLITS,
) -> pd.DataFrame:
    """A row for each board, see the module's text.

    Args:
        given: boards of the run.
        resampled: their means in bootstrap samples, as ``rankings.resampled`` gives them.
        confidence: coverage of the intervals behind ``resolution``.
        known: the run's rows.
        levels: as :func:`level_dependence` gives it, for all data sets and networks together.
        seed: of the random sets of images.
        splits: pairs of disjoint sets drawn.

    Returns:
        dataset, model, metric, counted, methods, images, best_method, best, median, a column a control of the run
        (empty where it has no scores), beaten_by_controls, resolution, images_<part> and tau_<part> for an eighth, a
        quarter and half of the images, images_for_stable_order, levels, tau_<n>_level, drawn.
    """
    controls = [method for method, row in known.methods.items() if row.control]
    used = [c for c in controls if any(c in board.methods for board in given)]
    numbers = known.columns()
    rows = []
    for board, means in zip(given, resampled, strict=True):
        own = board.means()
        row = dict(zip(("dataset", "model", "metric"), board.key, strict=True))
        row |= {"counted": board.column.counted, "methods": len(board.proper), "images": len(np.unique(board.images))}
        row |= _beside_controls(board, own, used)
        row["resolution"] = resolution(means[:, board.proper], confidence)
        row |= _stability(board, splits, seed)
        row |= {"levels": 1, **{f"tau_{name}_level": np.nan for name in THINNED}} | levels.get(board.key, {})
        rows.append({**row, "drawn": numbers[board.column.id][0].drawn})
    return pd.DataFrame(rows, columns=None if rows else ["dataset", "model", "metric", "counted"])


def _beside_controls(board: Board, own: np.ndarray, controls: Sequence[str]) -> dict[str, float | str]:
    """Best and median method, each control, and the share of methods that are no better than the best control."""
    printed = board.sign * own
    proper, scores = board.proper, settled(own)
    best = proper[own[proper].argmax()] if len(proper) else None
    found = {
        "best_method": "" if best is None else board.methods[best],
        "best": np.nan if best is None else printed[best],
        "median": np.median(printed[proper]) if len(proper) else np.nan,
    }
    found |= {c: printed[board.methods.index(c)] if c in board.methods else np.nan for c in controls}
    has_both = len(proper) and board.controls.any()
    found["beaten_by_controls"] = (scores[proper] <= scores[board.controls].max()).mean() if has_both else np.nan
    return found


def resolution(means: np.ndarray, confidence: float) -> float:
    """Half the width of a difference's interval, the median over pairs of methods; NaN of fewer than two.

    Args:
        means: (resamples, M), of methods over the same drawn images.
        confidence: coverage.
    """
    i, j = np.triu_indices(means.shape[1], 1)
    low, high = limits(means[:, i] - means[:, j], confidence)
    return float(np.nanmedian((high - low) / 2)) if len(i) else np.nan


def _stability(board: Board, splits: int, seed: int) -> dict[str, float]:
    """Kendall's tau between orders by disjoint sets of images, by their size."""
    count = len(np.unique(board.images))
    sizes = {name: count // part for name, part in PARTS.items()}
    taus = {name: split_tau(board, size, splits, seed) for name, size in sizes.items()}
    stable = [sizes[name] for name in PARTS if taus[name] >= STABLE]
    found: dict[str, float] = {}
    for name in PARTS:
        found |= {f"images_{name}": sizes[name], f"tau_{name}": taus[name]}
    return found | {"images_for_stable_order": min(stable, default=np.nan)}


def split_tau(board: Board, size: int, splits: int, seed: int) -> float:
    """Mean of Kendall's tau between a board's orders by two disjoint random sets of images.

    Args:
        board: with M methods.
        size: images in each set.
        splits: pairs of sets drawn.
        seed: of the drawing.

    Returns:
        The mean; NaN of fewer than three methods or no image. Pairs of sets that have no order are left out.
    """
    if len(board.proper) < FEWEST or size < 1:
        return np.nan
    names = np.unique(board.images)
    own = totals(board, names)
    parts = []
    for weights in _disjoint(len(names), size, splits, seed):
        first, second = (means_of(own, half)[:, board.proper] for half in weights)
        parts.append(kendall(first, second))
    taus = np.concatenate(parts)
    return float(np.nanmean(taus)) if not np.isnan(taus).all() else np.nan


def _disjoint(count: int, size: int, splits: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indicators of two disjoint sets of images, (rows, count) each, in parts of bounded memory."""
    generator = np.random.default_rng(seed)
    step = max(1, _ELEMENTS // count)
    for start in range(0, splits, step):
        places = generator.random((min(step, splits - start), count)).argsort(axis=1).argsort(axis=1)
        yield (places < size).astype(float), ((places >= size) & (places < 2 * size)).astype(float)


def level_dependence(
    rows: pd.DataFrame, dataset: str, model: str, known: Rows
) -> dict[tuple[str, str, str], dict[str, float]]:
    """Kendall's tau between the order by all levels and by some of them.

    Args:
        rows: score rows of one data set and model.
        dataset: id.
        model: id.
        known: the run's rows.

    Returns:
        (data set, network, number) -> levels, tau_second_level, tau_third_level, for numbers that are read from
        two levels or more; NaN where fewer levels are left than two, or there are fewer than three methods.
    """
    found = {}
    for name, family in rows.groupby("metric"):
        count = family["level"].nunique()
        if count < 2:
            continue
        keys = [family["level"], family["target"], *(pd.factorize(family[key])[0] for key in ("image_id", "method"))]
        family = family.iloc[np.lexsort(keys)]
        values = family["value"].to_numpy(float).reshape(-1, count)
        pairs = family[["method", *PAIR]].iloc[::count].assign(dataset=dataset, model=model)
        levels = family["level"].to_numpy(float).reshape(-1, count)
        for column in (column for _, column in known.columns().values() if column.rows == name):
            counts = np.ones(len(family), bool) if column.levels is None else column.levels(family["level"]).to_numpy()
            chosen = np.flatnonzero(counts.reshape(-1, count).all(axis=0))
            if len(chosen) > 1:
                found[dataset, model, column.id] = _thinned(
                    pairs.assign(metric=column.id), values, levels, chosen, column, known
                )
    return found


def _thinned(
    pairs: pd.DataFrame, values: np.ndarray, levels: np.ndarray, chosen: np.ndarray, column: Column, known: Rows
) -> dict[str, float]:
    """How many levels a number has, and its order by some of them against that by all.

    Args:
        pairs: N rows of method and pair.
        values: (N, levels).
        levels: (N, levels), ascending.
        chosen: places of the levels that the number is read from.
        column: the number.
        known: the run's rows.
    """

    def number(places: np.ndarray) -> np.ndarray:
        own = values[:, places]
        return area_under(own, levels[:, places]) if column.over == "area" else own.mean(axis=1)

    some = {"": chosen} | {name: np.sort(chosen[::-1][::step]) for name, step in THINNED.items()}
    of_levels = {
        name: next(iter(boards(pairs.assign(value=number(places)), known)), None)
        for name, places in some.items()
        if len(places) > 1
    }
    taus = {f"tau_{name}_level": _tau(of_levels[""], of_levels.get(name)) for name in THINNED}
    return {"levels": len(chosen), **taus}


def _tau(whole: Board | None, part: Board | None) -> float:
    if whole is None or part is None:
        return np.nan
    a, b = shared(whole, part)
    return float(kendall(whole.means()[a], part.means()[b])) if len(a) >= FEWEST else np.nan
