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
# The smallest p that is told: tables print six decimals, and no p is zero.
_LEAST_P = 1e-6


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


def bootstrap_trainings(
    trainings: Sequence[np.ndarray],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    images: Sequence[np.ndarray] | None = None,
    classes: Sequence[np.ndarray] | None = None,
    bases: Sequence[np.ndarray] | None = None,
) -> tuple[Interval, float]:
    """Mean over trainings of their means, with its percentile bootstrap over trainings and images.

    The trainings, which differ in their seed, have the same images, so the two are crossed: each resample draws
    trainings with replacement, and images with replacement once for all of them (the pigeonhole bootstrap, Owen 2007).
    Images drawn apart in each training would average away what all trainings find hard. Of K trainings the part that
    they contribute to the variance is too small by (K - 1) / K, as of any bootstrap of few.

    A training is whatever was drawn anew with another seed while the images stayed: a network, or only what a method
    learns on one network. Values (K, N) of K such seeds on N images are K trainings. It assumes that seeds are drawn
    alike and independently of the images; of one seed (K = 1) the interval is over images alone, and tells nothing of
    other seeds.

    Args:
        trainings: of each the values (N_k,); NaN is left out.
        confidence, resamples, seed: as of ``bootstrap_mean``, whose images are drawn alike: of one training it is that.
        images: of each the image of each value; those of one name are the same picture.
        classes: of each the class of each value, where the number is the mean of the classes' means.
        bases: of each what its values are compared with; the number is then mean / their mean - 1, by training.

    Returns:
        The interval, with all images of all trainings, and all their values; and the standard deviation of the
        trainings' numbers, with n - 1, NaN of one. Trainings without a value, or without a number, are left out.
    """
    images = images or [np.arange(len(values)) for values in trainings]
    rows = [np.asarray(values, dtype=np.float64) for values in trainings]
    sides = [rows] if bases is None else [rows, [np.asarray(values, dtype=np.float64) for values in bases]]
    known = [~np.isnan(np.sum(parts, axis=0)) for parts in zip(*sides, strict=True)]
    names = np.unique(np.concatenate([np.asarray(own)[kept] for own, kept in zip(images, known, strict=True)]))
    numbers, resampled, pairs = [], [], 0
    for place, kept in enumerate(known):
        if not kept.any():
            continue
        own = np.searchsorted(names, np.asarray(images[place])[kept])
        drawing = len(names), own, resamples, seed
        parts = [side[place][kept] for side in sides]
        if classes is not None:
            _, kinds = np.unique(np.asarray(classes[place])[kept], return_inverse=True)
            means = [float((np.bincount(kinds, part) / np.bincount(kinds)).mean()) for part in parts]
            drawn = [_resampled_class_means(part, *drawing[:2], kinds, *drawing[2:]) for part in parts]
        else:
            means = [float(part.mean()) for part in parts]
            drawn = [_resampled_means(part, *drawing) for part in parts]
        if bases is not None:
            if not means[1]:
                continue
            means = [means[0] / means[1] - 1]
            drawn = [np.divide(*drawn, out=np.full(len(drawn[0]), np.nan), where=drawn[1] != 0) - 1]
        numbers.append(means[0])
        resampled.append(drawn[0])
        pairs += int(kept.sum())
    if not numbers:
        return Interval(np.nan, np.nan, np.nan, 0, 0), np.nan
    count = len(numbers)
    # Another stream than the images'.
    chosen = np.random.default_rng([seed, 1]).integers(count, size=(resamples, count))
    means = _known_mean(np.take_along_axis(np.array(resampled).T, chosen, axis=1))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    spread = float(np.std(numbers, ddof=1)) if count > 1 else np.nan
    return Interval(float(np.mean(numbers)), float(low), float(high), len(names), pairs), spread


def _known_mean(values: np.ndarray) -> np.ndarray:
    """Means of rows over what is not NaN; NaN of a row of nothing else."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


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
    if count == len(values) == len(np.unique(own)):
        ordered = np.empty_like(values)
        ordered[own] = values
        return np.concatenate([ordered[drawn].mean(axis=1) for drawn in _draws(count, resamples, seed)])
    sums, counts = np.bincount(own, values, count), np.bincount(own, minlength=count).astype(np.float64)
    parts = []
    for drawn in _draws(count, resamples, seed):
        above, below = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
        # A resample of images without a value tells no mean.
        parts.append(np.divide(above, below, out=np.full(len(drawn), np.nan), where=below > 0))
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

    Drawing can tell no p below 1 / (1 + permutations), which correction for many claims may ask for. Random signs obey
    Hoeffding's inequality (1963), P(sum >= t) <= exp(-t^2 / (2 sum d^2)); where that is smaller, it is returned and
    nothing is drawn. It is never below the p of all sign patterns.

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
    enumerated = count <= _ENUMERABLE
    if not enumerated and size(total) > 0:
        tails = 2 if alternative == "two-sided" else 1
        hoeffding = tails * float(np.exp(-(total**2) / (2 * np.square(differences).sum())))
        if hoeffding <= 1 / (1 + permutations):
            return max(hoeffding, _LEAST_P)
    # Sums that differ by rounding only are equal.
    bound = size(total) - 1e-12 * np.abs(differences).sum()
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


def two_sample_test(
    first: np.ndarray,
    second: np.ndarray,
    alternative: str = "two-sided",
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Permutation test of the difference of two means of independent samples, such as gains on two data sets.

    The statistic is Welch's, the difference over its standard error: permuted so, the test keeps its level in large
    samples also where spreads and sizes differ (Janssen 1997), and in all samples where the two are distributed alike.
    p = (1 + extreme) / (1 + permutations).

    Args:
        first, second: (N,) and (M,), one value an image; NaN is left out.
        alternative: ``two-sided``, or ``greater`` (the first mean is above the second).
        permutations: drawn.
        seed: of the drawing.

    Returns:
        The p-value; 1.0 where a sample has fewer than two values, or no value differs from another.

    Raises:
        ValueError: another alternative.
    """
    if alternative not in ("two-sided", "greater"):
        raise ValueError(f"unknown alternative {alternative!r}; choose two-sided or greater")
    samples = [np.asarray(sample, dtype=np.float64) for sample in (first, second)]
    samples = [sample[~np.isnan(sample)] for sample in samples]
    sizes = [len(sample) for sample in samples]
    pooled = np.concatenate(samples)
    if min(sizes) < 2 or not np.ptp(pooled):
        return 1.0
    pooled -= pooled.mean()
    size = np.abs if alternative == "two-sided" else np.asarray
    # Statistics that differ by rounding only are equal.
    observed = size(_welch(pooled[None, : sizes[0]], pooled, sizes))[0]
    bound = observed - 1e-9 * abs(observed)
    generator = np.random.default_rng(seed)
    rows = max(1, _ELEMENTS // len(pooled))
    extreme = 0
    for start in range(0, permutations, rows):
        drawn = generator.permuted(np.tile(pooled, (min(rows, permutations - start), 1)), axis=1)
        extreme += int((size(_welch(drawn[:, : sizes[0]], pooled, sizes)) >= bound).sum())
    return (1 + extreme) / (1 + permutations)


def _welch(first: np.ndarray, pooled: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Welch's statistic of samples (P, N) against the rest of ``pooled`` (N + M,): (P,)."""
    sums, squares = first.sum(axis=1), np.square(first).sum(axis=1)
    both = ((sums, squares), (pooled.sum() - sums, np.square(pooled).sum() - squares))
    means = [total / n for (total, _), n in zip(both, sizes, strict=True)]
    spreads = [
        np.maximum(square - n * mean**2, 0) / (n - 1) / n
        for (_, square), mean, n in zip(both, means, sizes, strict=True)
    ]
    # A split into two constant samples is as extreme as can be.
    return (means[0] - means[1]) / np.sqrt(np.maximum(sum(spreads), 1e-24 * np.square(pooled).sum()))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment (1979): compare the result with the level, and the family-wise error keeps it.

    Args:
        p_values: (N,).

    Returns:
        (N,) adjusted p-values, at most 1, in the same order.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    return np.minimum(p_values * holm_factors(p_values), 1.0)


def holm_factors(p_values: np.ndarray) -> np.ndarray:
    """What Holm's adjustment multiplies each p by, before it is cut off at 1: (N,) of (N,)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    ascending, counts = p_values[order], np.arange(len(p_values), 0, -1, dtype=np.float64)
    factors = np.empty_like(ascending)
    stepped = np.maximum.accumulate(ascending * counts)
    factors[order] = np.divide(stepped, ascending, out=counts, where=ascending > 0)
    return factors
