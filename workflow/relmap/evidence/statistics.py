"""Intervals and paired tests on per-image values; seeded, and independent of everything but the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
PERMUTATIONS = 10_000
# Above this many non-zero differences signs are drawn, below it all of them are enumerated (2 ** 12 = 4,096).
_ENUMERABLE = 12
# Elements made at once; bounds the memory.
_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; ``n`` images with ``pairs`` values that are not NaN stand behind it."""

    mean: float
    low: float
    high: float
    n: int
    pairs: int


def area_under(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The area under curves by the trapezoid rule, over the range of their levels: a constant curve's is its value.

    Args:
        values: (N, L), of at least two levels.
        levels: (L,) or (N, L), ascending.

    Returns:
        (N,) float64.
    """
    values, levels = np.asarray(values, dtype=np.float64), np.asarray(levels, dtype=np.float64)
    area = ((values[:, 1:] + values[:, :-1]) / 2 * np.diff(levels)).sum(axis=1)
    return area / (levels[..., -1] - levels[..., 0])


def bootstrap_mean(
    values: np.ndarray,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    images: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> Interval:
    """Percentile bootstrap of the mean over images (Efron 1979), or of the mean of the classes' means.

    An accuracy is the mean of zeros and ones, and is treated alike. NaN (an image without a value) is left out.

    Args:
        values: (N,).
        confidence: coverage of the interval.
        resamples: bootstrap samples.
        seed: of the resampling; the same for all cells of a table, so that cells over the same images share resamples.
        images: (N,) the image of each value; all values of an image are drawn together. Without it each is its own.
        classes: (N,) the class of each value; then the mean of each class counts once, whatever its size. A resample
            without a class leaves it out.

    Returns:
        The interval; all NaN where no value is left.
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    values = values[known]
    if not len(values):
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    count, own = _grouped(None if images is None else np.asarray(images)[known], len(values))
    if classes is None:
        means = _resampled_means(values, count, own, resamples, seed)
        mean = float(values.mean())
    else:
        _, kinds = np.unique(np.asarray(classes)[known], return_inverse=True)
        means = _resampled_class_means(values, count, own, kinds, resamples, seed)
        mean = float((np.bincount(kinds, values) / np.bincount(kinds)).mean())
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), count, len(values))


def bootstrap_change(
    values: np.ndarray,
    base: np.ndarray,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    images: np.ndarray | None = None,
) -> Interval:
    """Change of a mean against another, mean(values) / mean(base) - 1, with its percentile bootstrap over images.

    Both means are of the same resampled images, so that what the two share does not widen the interval.

    Args:
        values, base: (N,) paired; a pair of which either is NaN is left out.
        confidence, resamples, seed, images: as of ``bootstrap_mean``.

    Returns:
        The interval; all NaN where no pair is left or the base's mean is 0, whose change no number tells.
    """
    values, base = (np.asarray(side, dtype=np.float64) for side in (values, base))
    known = ~np.isnan(values) & ~np.isnan(base)
    values, base = values[known], base[known]
    if not len(values) or not base.mean():
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    count, own = _grouped(None if images is None else np.asarray(images)[known], len(values))
    above, below = (_resampled_means(side, count, own, resamples, seed) for side in (values, base))
    # A resample whose base is 0 tells no change; where there are many, so does the interval not.
    changes = np.divide(above, below, out=np.full(len(below), np.nan), where=below != 0) - 1
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(changes, [tail, 1 - tail])
    return Interval(float(values.mean() / base.mean()) - 1, float(low), float(high), count, len(values))


def _grouped(images: np.ndarray | None, values: int) -> tuple[int, np.ndarray]:
    """How many images there are, and the number of each value's."""
    if images is None:
        return values, np.arange(values)
    names, own = np.unique(images, return_inverse=True)
    return len(names), own


def _draws(count: int, resamples: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """Images drawn with replacement, (resamples, count), in parts of bounded memory."""
    generator = np.random.default_rng(seed)
    rows = max(1, _ELEMENTS // count)
    for start in range(0, resamples, rows):
        yield generator.integers(count, size=(min(rows, resamples - start), count))


def drawn_counts(count: int, resamples: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """How often each of some images is drawn in a bootstrap sample, (resamples, count), in parts of bounded memory."""
    for drawn in _draws(count, resamples, seed):
        places = np.arange(len(drawn))[:, None] * count + drawn
        yield np.bincount(places.ravel(), minlength=len(drawn) * count).reshape(len(drawn), count).astype(float)


def _resampled_means(values: np.ndarray, count: int, own: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    # One value an image: its mean needs no counts, and the values keep their own order.
    if count == len(values):
        ordered = np.empty_like(values)
        ordered[own] = values
        return np.concatenate([ordered[drawn].mean(axis=1) for drawn in _draws(count, resamples, seed)])
    sums, counts = np.bincount(own, values), np.bincount(own).astype(np.float64)
    parts = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in _draws(count, resamples, seed)]
    return np.concatenate(parts)


def _resampled_class_means(
    values: np.ndarray, count: int, own: np.ndarray, kinds: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    shape = (count, kinds.max() + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (own, kinds), values)
    np.add.at(counts, (own, kinds), 1)
    parts = []
    for weights in drawn_counts(count, resamples, seed):
        seen = weights @ counts
        means = np.divide(weights @ sums, seen, out=np.full(seen.shape, np.nan), where=seen > 0)
        parts.append(np.nanmean(means, axis=1))
    return np.concatenate(parts)


def class_weights(classes: np.ndarray) -> np.ndarray:
    """(N,) weights with which the mean over values is the mean of the classes' means: N / (classes x the class's size).

    A linear statistic of the values, which a sign-flip test can take.
    """
    _, kinds, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return len(kinds) / (len(counts) * counts[kinds])


def sign_flip_test(
    differences: np.ndarray,
    alternative: str = "two-sided",
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    images: np.ndarray | None = None,
) -> float:
    """Paired permutation test of a mean difference (Fisher 1935): is the mean zero, if signs are exchangeable?

    Chosen over Wilcoxon's signed-rank test because it tests the very number that the tables print, the mean, and keeps
    ties and zeros, of which the differences of right-or-wrong values consist. All sign patterns are enumerated where
    there are few non-zero differences; otherwise ``permutations`` patterns are drawn and p = (1 + extreme) /
    (1 + drawn), which is never zero and keeps the level (Phipson and Smyth 2010).

    Args:
        differences: (N,) of a - b, image by image; NaN is left out.
        alternative: ``two-sided``, or ``greater`` (the mean is above zero).
        permutations: patterns drawn.
        seed: of the drawing.
        images: (N,) the image of each difference; those of an image are flipped as one. Without it each is its own.

    Returns:
        The p-value; 1.0 where all differences are zero or none is left.

    Raises:
        ValueError: another alternative.
    """
    if alternative not in ("two-sided", "greater"):
        raise ValueError(f"unknown alternative {alternative!r}; choose two-sided or greater")
    differences = np.asarray(differences, dtype=np.float64)
    known = ~np.isnan(differences)
    differences = differences[known]
    if images is not None:
        _, own = np.unique(np.asarray(images)[known], return_inverse=True)
        if len(own) and own.max() + 1 < len(own):
            differences = np.bincount(own, differences)
    differences = differences[differences != 0]  # zeros change no sum
    count = len(differences)
    if not count:
        return 1.0
    size = np.abs if alternative == "two-sided" else np.asarray
    total = differences.sum()
    # Sums that differ by rounding only are equal.
    bound = size(total) - 1e-12 * np.abs(differences).sum()
    enumerated = count <= _ENUMERABLE
    patterns = 2**count if enumerated else permutations
    generator = np.random.default_rng(seed)
    rows = max(1, _ELEMENTS // count)
    extreme = 0
    for start in range(0, patterns, rows):
        stop = min(start + rows, patterns)
        if enumerated:
            positive = (np.arange(start, stop)[:, None] >> np.arange(count)) & 1
        else:
            packed = generator.integers(256, size=(stop - start, -(-count // 8)), dtype=np.uint8)
            positive = np.unpackbits(packed, axis=1, count=count)
        extreme += int((size(2 * (positive @ differences) - total) >= bound).sum())
    return extreme / patterns if enumerated else (1 + extreme) / (1 + patterns)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment (1979): compare the result with the level, and the family-wise error keeps it.

    Args:
        p_values: (N,).

    Returns:
        (N,) adjusted p-values, at most 1, in the same order.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
