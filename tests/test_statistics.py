"""Bootstrap intervals, the paired permutation test, and Holm's adjustment."""

from itertools import combinations, product

import numpy as np
import pytest
from relmap.evidence import statistics
from relmap.evidence.statistics import (
    RESAMPLES,
    area_under,
    bootstrap_change,
    bootstrap_mean,
    bootstrap_trainings,
    class_weights,
    holm,
    holm_factors,
    sign_flip_test,
    two_sample_test,
)
from scipy import optimize, stats


def test_interval_agrees_with_theory():
    """For many values the percentile interval of a mean nears the normal one."""
    values = np.random.default_rng(0).normal(3, 2, 2_000)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_coverage():
    """Of 200 experiments with 50 images the 90 % interval holds the truth in about 90 %."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        interval = bootstrap_mean(generator.random(50) < 0.7, confidence=0.9, resamples=400)
        held += interval.low <= 0.7 <= interval.high
    assert 165 <= held <= 195


def test_interval_is_deterministic_and_ignores_memory_bounds(monkeypatch):
    values = np.random.default_rng(2).random(101)
    first = bootstrap_mean(values)
    assert first == bootstrap_mean(values)
    assert first != bootstrap_mean(values, seed=1)
    monkeypatch.setattr(statistics, "_ELEMENTS", 1_000)
    assert first == bootstrap_mean(values)


def test_missing_values():
    interval = bootstrap_mean(np.array([1.0, np.nan, 3.0]))
    assert (interval.mean, interval.n) == (2.0, 2)
    nothing = bootstrap_mean(np.array([np.nan]))
    assert nothing.n == 0
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_small_samples_are_exact(alternative):
    differences = np.array([0.3, -0.1, 0.5, 0.0, 0.2, 0.2, np.nan])
    kept = [0.3, -0.1, 0.5, 0.2, 0.2]
    sums = [sum(s * d for s, d in zip(signs, kept, strict=True)) for signs in product((-1, 1), repeat=5)]
    if alternative == "two-sided":
        sums, observed = np.abs(sums), abs(sum(kept))
    else:
        observed = sum(kept)
    expected = np.mean(np.asarray(sums) >= observed - 1e-12)
    assert sign_flip_test(differences, alternative) == expected


def test_drawn_signs_agree_with_scipy():
    differences = np.random.default_rng(3).normal(0.2, 1, 80)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(0)
    ).pvalue
    assert sign_flip_test(differences) == pytest.approx(theirs, abs=0.02)


def test_level_under_the_null():
    generator = np.random.default_rng(4)
    p_values = [sign_flip_test(generator.choice([-1, 0, 1], 40), permutations=500, seed=i) for i in range(300)]
    assert 0.01 <= np.mean(np.asarray(p_values) <= 0.05) <= 0.09


def test_direction_and_degenerate_cases(monkeypatch):
    shift = np.random.default_rng(5).random(50) + 0.1
    assert sign_flip_test(shift) == sign_flip_test(-shift) < 1 / 10_001
    assert sign_flip_test(shift, "greater") < 0.001
    assert sign_flip_test(-shift, "greater") > 0.999
    assert sign_flip_test(np.zeros(9)) == sign_flip_test(np.array([])) == 1.0
    mixed = np.random.default_rng(6).normal(0.1, 1, 61)
    before = sign_flip_test(mixed)
    monkeypatch.setattr(statistics, "_ELEMENTS", 500)
    assert sign_flip_test(mixed) == before
    with pytest.raises(ValueError, match="unknown alternative"):
        sign_flip_test(shift, "less")


def test_a_p_too_small_to_be_drawn_is_bounded_and_never_below_the_exact_one():
    """Hoeffding's bound against all sign patterns, counted by convolution of equal steps."""
    for count in (20, 24, 30, 40):
        p = sign_flip_test(np.ones(count), "greater")
        assert 0.5**count <= p == pytest.approx(max(np.exp(-count / 2), 1e-6))
        assert sign_flip_test(np.ones(count)) == pytest.approx(max(2 * np.exp(-count / 2), 1e-6))
    # Where drawing tells it, it is drawn: 14 of 15 up.
    drawn = sign_flip_test(np.r_[np.ones(14), -1.0], "greater")
    assert drawn == pytest.approx(stats.binomtest(14, 15, alternative="greater").pvalue, abs=1e-3)


def test_two_samples_agree_with_all_permutations():
    """Drawn p against scipy's of all 5,005 splits, within four standard errors of 10,000 draws."""
    generator = np.random.default_rng(7)
    first, second = generator.normal(0.9, 1, 6), generator.normal(0, 1, 9)

    def welch(a, b, axis=-1):
        return stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic

    def exact(a, b, alternative):
        return stats.permutation_test(
            (a, b), welch, n_resamples=np.inf, alternative=alternative, vectorized=True
        ).pvalue

    for a, b, alternative in ((first, second, "greater"), (second, first, "greater"), (first, second, "two-sided")):
        whole = exact(a, b, alternative)
        # Both tails of Welch's statistic by its magnitude: scipy doubles the smaller tail.
        if alternative == "two-sided":
            pooled = np.r_[a, b]
            places = [list(own) for own in combinations(range(15), 6)]
            drawn = [welch(pooled[own], np.delete(pooled, own)) for own in places]
            whole = np.mean(np.abs(drawn) >= abs(welch(a, b)) - 1e-12)
        error = np.sqrt(whole * (1 - whole) / 10_000)
        assert abs(two_sample_test(a, b, alternative) - whole) < 4 * error + 1e-4
    first, second = generator.normal(0.4, 1, 30), generator.normal(0, 1, 45)
    assert two_sample_test(first + 9, second) == two_sample_test(second, first + 9) == 1 / 10_001
    assert two_sample_test(np.r_[first, np.nan], second) == two_sample_test(first, second)


def test_two_samples_degenerate_cases(monkeypatch):
    assert two_sample_test(np.ones(5), np.ones(7)) == two_sample_test(np.ones(1), np.zeros(9)) == 1.0
    assert two_sample_test(np.ones(12), np.zeros(14), "greater") == 1 / 10_001, "constant samples are told apart"
    mixed = np.random.default_rng(8).normal(0, 1, (2, 31))
    before = two_sample_test(*mixed)
    monkeypatch.setattr(statistics, "_ELEMENTS", 500)
    assert two_sample_test(*mixed) == before
    with pytest.raises(ValueError, match="unknown alternative"):
        two_sample_test(*mixed, "less")


def test_level_of_two_samples_of_other_spreads_and_sizes():
    """The small sample is the wild one: to permute the plain difference of means would reject far more often."""
    generator = np.random.default_rng(9)
    p_values = [
        two_sample_test(generator.normal(0, 5, 15), generator.normal(0, 1, 60), permutations=300, seed=i)
        for i in range(300)
    ]
    assert 0.01 <= np.mean(np.asarray(p_values) <= 0.05) <= 0.1


def test_seeds_are_a_random_factor_crossed_with_images():
    """Of one seed (K = 1) the interval of images alone; of equal seeds no wider; of unlike ones as theory has it."""
    values = np.random.default_rng(10).normal(0.4, 0.1, 400)
    plain = bootstrap_mean(values)
    one, spread = bootstrap_trainings(values[None])
    assert one == plain and np.isnan(spread)
    same, spread = bootstrap_trainings(np.tile(values, (5, 1)))
    assert spread == pytest.approx(0, abs=1e-12)
    assert (same.low, same.high, same.n) == (pytest.approx(plain.low), pytest.approx(plain.high), 400)
    shifts = np.array([-0.06, -0.02, 0.0, 0.03, 0.05])
    unlike, spread = bootstrap_trainings(values + shifts[:, None])
    assert spread == pytest.approx(shifts.std(ddof=1))
    # Of all 5^5 draws of seeds, each with the normal spread of the mean over images; and what resamples miss it by.
    means = values.mean() + np.array(list(product(shifts, repeat=5))).mean(1)
    deviation = values.std() / 20
    for limit, share in ((unlike.low, 0.025), (unlike.high, 0.975)):
        exact = optimize.brentq(lambda q, share=share: stats.norm.cdf(q, means, deviation).mean() - share, 0, 1)
        error = np.sqrt(share * (1 - share) / RESAMPLES) / stats.norm.pdf(exact, means, deviation).mean()
        assert abs(limit - exact) < 4 * error


def test_coverage_over_seeds():
    """Truth is the mean over seeds and images; the interval over images of one seed misses it, that over both does not
    but for the (K - 1) / K of few seeds."""
    generator, held = np.random.default_rng(11), {1: 0, 6: 0}
    for trial in range(200):
        values = generator.normal(0, 0.2, (6, 1)) + generator.normal(0, 1, (6, 60))
        for count in held:
            interval, _ = bootstrap_trainings(values[:count], 0.9, 300, trial)
            held[count] += interval.low <= 0 <= interval.high
    assert 160 <= held[6] <= 190 and held[1] < 150


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.9])), [1.0, 1.0])
    assert holm(np.array([])).shape == (0,)
    np.testing.assert_allclose(holm_factors(np.array([0.01, 0.04, 0.03, 0.005])), [3, 1.5, 2, 4])
    np.testing.assert_allclose(holm_factors(np.array([1.0, 0.0, 1.0])), [2, 3, 2])


def test_the_mean_of_classes_counts_each_class_once():
    """Nine values of one class and one of another: the mean of the means, in the interval and as a weighted mean."""
    values = np.array([1.0] * 9 + [0.0])
    classes = np.array([3] * 9 + [7])
    found = bootstrap_mean(values, classes=classes)
    assert (found.mean, found.n, found.pairs) == (0.5, 10, 10)
    assert (values * class_weights(classes)).mean() == pytest.approx(0.5)
    assert class_weights(np.zeros(4)).tolist() == [1] * 4


def test_class_means_are_resampled_by_image():
    """Against the definition: images drawn with replacement, then the mean of the means of the classes drawn."""
    rng = np.random.default_rng(1)
    images, classes, values = rng.integers(0, 12, 40), rng.integers(0, 3, 40), rng.random(40)
    values[::9] = np.nan
    found = bootstrap_mean(values, 0.9, 300, 5, images, classes)
    known = ~np.isnan(values)
    names = np.unique(images[known])
    means = []
    for drawn in np.random.default_rng(5).integers(len(names), size=(300, len(names))):
        taken = np.concatenate([np.flatnonzero(known & (images == names[one])) for one in drawn])
        means.append(np.mean([values[taken][classes[taken] == kind].mean() for kind in np.unique(classes[taken])]))
    np.testing.assert_allclose((found.low, found.high), np.quantile(means, [0.05, 0.95]), atol=1e-12)
    assert found.n == len(names)


def test_a_change_of_means_is_paired():
    """Twice the base is +100 % in every resample; a base of 0 has no change; NaN leaves both sides out."""
    base = np.array([1.0, 2.0, 3.0, np.nan])
    found = bootstrap_change(2 * base, base, resamples=200)
    assert (found.mean, found.low, found.high, found.n) == (1, 1, 1, 3)
    assert np.isnan(bootstrap_change(np.ones(3), np.zeros(3)).mean)
    values = np.array([1.0, np.nan, 1.0, 5.0])
    assert bootstrap_change(values, base, resamples=50).mean == 2 / 4 - 1
    mixed = bootstrap_change(np.array([0.0, 1.0] * 40), np.ones(80), resamples=500, seed=1)
    plain = bootstrap_mean(np.array([0.0, 1.0] * 40), resamples=500, seed=1)
    assert (mixed.low, mixed.high) == (plain.low - 1, plain.high - 1)
    grouped = bootstrap_change(np.arange(4.0), np.ones(4), resamples=300, images=np.array(["a", "a", "b", "b"]))
    assert (grouped.low, grouped.high, grouped.n, grouped.pairs) == (-0.5, 1.5, 2, 4)


def test_area_under_curves():
    """Trapezoids over the levels' range, by numpy's; a straight line's is its middle, levels being even or not."""
    generator = np.random.default_rng(0)
    values, levels = generator.random((5, 9)), np.sort(generator.random((5, 9)), axis=1) * 7 - 3
    expected = [np.trapezoid(v, t) / (t[-1] - t[0]) for v, t in zip(values, levels, strict=True)]
    np.testing.assert_allclose(area_under(values, levels), expected, rtol=1e-12)
    np.testing.assert_allclose(area_under(values, levels[0])[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(area_under(2 * levels + 1, levels), levels[:, [0, -1]].sum(1) + 1, rtol=1e-12)
    assert area_under(np.full((1, 3), 0.7), [0, 0.2, 1]) == pytest.approx(0.7)
