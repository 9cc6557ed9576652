"""Intervals and corrections, against scipy, statsmodels, closed forms and their own promise."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from closedloop.analysis import (
    benjamini_hochberg,
    bootstrap,
    holm,
    mean_interval,
    median_interval,
    success_rate,
)
from closedloop.analysis.resampling import cohens_d, rank_auc
from closedloop.errors import InvalidArgumentError
from closedloop.seeds import named_generator
from closedloop.testing.common import untouched_randomness

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_bootstrap_is_scipys(rng, method):
    sample = rng.exponential(size=30)
    with untouched_randomness():
        found = bootstrap(sample, np.std, method=method, resamples=500, level=0.9, seed=3)
    expected = stats.bootstrap(
        [sample], np.std, method=method, n_resamples=500, confidence_level=0.9, rng=named_generator(3, "bootstrap")
    ).confidence_interval
    assert (found["low"].item(), found["high"].item()) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found["estimate"].item() == np.std(sample)
    assert (found["level"].item(), found["seed"].item(), found["resamples"].item()) == (0.9, 3, 500)
    again = bootstrap(sample, np.std, method=method, resamples=500, level=0.9, seed=4)
    assert again["low"].item() != found["low"].item()


def coverage(draw, statistic, truth, method, count, **options):
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(count):
        found = bootstrap(draw(rng), statistic, method=method, resamples=599, seed=seed, **options)
        hits += bool(found["low"] <= truth <= found["high"])
    return hits / count


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_coverage_of_a_mean(method):
    covered = coverage(lambda rng: rng.standard_normal(60), np.mean, 0.0, method, 500)
    assert 0.93 <= covered <= 0.97


def test_coverage_of_effect_size_and_auc():
    def draw(rng):
        return [rng.standard_normal(50) + 1, rng.standard_normal(60)]

    assert 0.93 <= coverage(draw, cohens_d, 1.0, "BCa", 300) <= 0.97
    assert 0.93 <= coverage(draw, rank_auc, stats.norm.cdf(1 / 2**0.5), "BCa", 150) <= 0.97


def test_coverage_of_a_paired_difference():
    def draw(rng):
        shared = 5 * rng.standard_normal(60)
        return [shared + rng.standard_normal(60) + 1, shared + rng.standard_normal(60)]

    def difference(a, b, axis=-1):
        return a.mean(axis) - b.mean(axis)

    assert 0.93 <= coverage(draw, difference, 1.0, "percentile", 500, paired=True) <= 0.97
    pair = draw(np.random.default_rng(0))
    narrow, wide = (bootstrap(pair, difference, paired=p) for p in (True, False))
    assert wide["high"] - wide["low"] > 3 * (narrow["high"] - narrow["low"])


def test_lost_values_are_left_out(rng):
    sample = rng.standard_normal(20)
    holes = np.concatenate([sample, [np.nan, np.nan]])
    assert bootstrap(holes)["high"] == bootstrap(sample)["high"]
    pairs = [np.concatenate([sample, [1.0, np.nan]]), np.concatenate([2 * sample, [np.nan, 1.0]])]
    found = bootstrap(pairs, lambda a, b, axis=-1: (b - a).mean(axis), paired=True)
    assert found["estimate"].item() == pytest.approx(sample.mean())


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ([1.0, 2.0], "fewer than three values"),
        ([2.0] * 5, "all values are equal, so nothing can be resampled"),
        ([np.nan] * 5, "no value"),
    ],
)
def test_no_interval_without_information(sample, reason):
    found = bootstrap(sample)
    assert np.isnan([found["low"], found["high"]]).all()
    assert reason in found["reason"].item()


def test_perfect_separation_has_no_interval():
    found = bootstrap([np.arange(5.0), np.arange(10.0, 15.0)], rank_auc)
    assert found["estimate"] == 0
    assert np.isnan(found["low"])
    assert "the same in all resamples" in found["reason"].item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1}, "level: expected a number between 0 and 1"),
        ({"method": "basic"}, "method: expected 'BCa' or 'percentile', got 'basic'"),
        ({"resamples": 10}, "resamples: expected a whole number of at least 100, got 10"),
        ({"samples": np.zeros((3, 3))}, r"samples: expected one-dimensional samples, got shapes \[\(3, 3\)\]"),
        ({"samples": [[1.0, 2], [1.0]], "paired": True}, "expected samples of one length for paired=True"),
        ({"samples": ["a", "b"]}, "samples: expected numbers, got "),
        ({"samples": [1.0, 2.0, np.inf]}, "samples: expected finite numbers"),
        ({"paired": "no"}, "paired: expected True or False, got 'no'"),
        ({"level": "high"}, "level: expected a number between 0 and 1"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        bootstrap(**{"samples": np.arange(5.0), **options})


def test_holm_is_statsmodels():
    p = [0.01, 0.04, 0.03, 0.005, 0.7]
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(holm([[0.01, np.nan], [0.04, 0.03]]), [[0.03, np.nan], [0.06, 0.06]])


@given(PROBABILITIES, st.randoms(use_true_random=False))
def test_holm_never_helps_and_ignores_order(p, random):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    order = random.sample(range(len(p)), len(p))
    np.testing.assert_allclose(holm(np.array(p)[order]), adjusted[order])


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(InvalidArgumentError, match=r"p: expected values in \[0, 1\]"):
        holm([0.5, 1.5])
    with pytest.raises(InvalidArgumentError, match="p: expected numbers, got object from NoneType"):
        holm(None)


def test_success_rate():
    found = success_rate([1, 1, 1, np.nan])
    assert (found["rate"], found["k"], found["n"]) == (1, 3, 3)
    assert found["low"] == pytest.approx(0.05 ** (1 / 4))  # Beta(4, 1): x⁴
    assert found["high"] == 1
    none = success_rate([0] * 10)
    assert (none["rate"], none["low"]) == (0, 0)  # the interval holds what was observed
    assert none["high"] == pytest.approx(1 - 0.05 ** (1 / 11))
    assert success_rate([0, 1])["low"] == pytest.approx(1 - success_rate([0, 1])["high"])
    nothing = success_rate([np.nan])
    assert np.isnan(nothing["rate"])
    assert nothing["reason"].item() == "no evolution can be judged"
    with pytest.raises(InvalidArgumentError, match="success: expected yes or no"):
        success_rate([0.5])
    with pytest.raises(InvalidArgumentError, match="success: expected numbers"):
        success_rate("yes")
    with pytest.raises(InvalidArgumentError, match=r"success: expected what closedloop\.analysis\.success returned"):
        success_rate(nothing)


def test_auc_is_mann_and_whitneys(rng):
    a, b = rng.integers(0, 6, 20).astype(float), rng.integers(0, 5, 15).astype(float)
    assert rank_auc(a, b) == pytest.approx(stats.mannwhitneyu(a, b).statistic / (20 * 15))
    table = rank_auc(np.stack([a, a + 9]), np.stack([b, b]), axis=-1)
    np.testing.assert_allclose(table, [rank_auc(a, b), 1.0])


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9), st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_auc_keeps_under_monotone_maps_and_turns_with_the_sides(a, b):
    a, b = np.array(a, float), np.array(b, float)
    assert rank_auc(np.exp(a / 3), np.exp(b / 3)) == pytest.approx(rank_auc(a, b))
    assert rank_auc(b, a) == pytest.approx(1 - rank_auc(a, b))


def test_effect_size_is_the_t_statistic_rescaled(rng):
    a, b = rng.standard_normal(12) + 1, rng.standard_normal(9)
    t = stats.ttest_ind(a, b).statistic
    assert cohens_d(a, b) == pytest.approx(t * np.sqrt(1 / 12 + 1 / 9))
    assert cohens_d(5 * a - 2, 5 * b - 2) == pytest.approx(cohens_d(a, b))


@given(PROBABILITIES)
def test_benjamini_hochberg_is_that_of_statsmodels(p):
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], atol=1e-12)


def test_benjamini_hochberg_leaves_out_what_is_not_known():
    np.testing.assert_allclose(benjamini_hochberg([[0.01, np.nan], [0.02, 0.5]]), [[0.03, np.nan], [0.03, 0.5]])
    assert benjamini_hochberg([]).shape == (0,)
    with pytest.raises(InvalidArgumentError, match=r"p: expected values in \[0, 1\]"):
        benjamini_hochberg([0.5, 2.0])


def _coverage(interval, draw, truth, runs):
    found = [interval(draw()) for _ in range(runs)]
    return np.mean([f["low"].item() <= truth <= f["high"].item() for f in found])


def test_intervals_over_few_units_cover(rng):
    """Where a percentile bootstrap covers 85 to 89 %."""
    for n in (6, 9):
        assert _coverage(mean_interval, lambda n=n: rng.standard_normal(n), 0, 400) > 0.92
        assert _coverage(median_interval, lambda n=n: rng.lognormal(size=n), 1, 400) > 0.93
    studentized = functools.partial(mean_interval, method="studentized", resamples=400)
    assert _coverage(studentized, lambda: rng.exponential(size=9), 1, 400) > 0.91


def test_the_interval_of_a_mean_is_students(rng):
    values = rng.standard_normal(7)
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = mean_interval([*values, np.nan], level=0.9)
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high))
    assert found["estimate"].item() == pytest.approx(values.mean())


def test_the_interval_of_a_median_is_that_of_the_quantile_test(rng):
    for n in (6, 9, 20, 33):
        values = rng.standard_normal(n)
        ends = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
        found = median_interval(values)
        assert (found["low"].item(), found["high"].item()) == (ends.low, ends.high)
        assert 0.95 <= found["covered"] < 0.98


@pytest.mark.parametrize(
    ("found", "estimate", "reason"),
    [
        (lambda: mean_interval([3.0]), 3, "fewer than 2 values (1)"),
        (lambda: mean_interval([1.0, 2, 3, 4], method="studentized"), 2.5, "fewer than 5 values (4)"),
        (lambda: mean_interval([2.0, 2, 2]), 2, "all values are equal"),
        (lambda: mean_interval([np.nan]), np.nan, "no value"),
        (lambda: median_interval(np.arange(5.0)), 2, "too few values (5) for a 95 % interval of a median"),
        (lambda: median_interval([]), np.nan, "no value"),
    ],
)
def test_intervals_say_what_is_too_little(found, estimate, reason):
    result = found()
    assert result["estimate"].item() == pytest.approx(estimate, nan_ok=True)
    assert np.isnan([result["low"], result["high"]]).all()
    assert result["reason"].item() == reason


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0, 2], method="BCa"), "method: expected 't' or 'studentized', got 'BCa'"),
        (lambda: mean_interval([[1.0, 2]]), "values: expected one for each unit"),
        (lambda: median_interval([[1.0, 2]]), "values: expected one for each unit"),
        (lambda: median_interval([1.0, 2], level=95), "level: expected a number between 0 and 1"),
    ],
)
def test_intervals_refuse(call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call()
