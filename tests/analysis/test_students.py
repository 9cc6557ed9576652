"""Student's t, against scipy, and where it can say nothing."""

import numpy as np
import pytest
from scipy import stats

from closedloop.analysis.students import informative, students_interval, students_p, welch


def test_it_is_that_of_scipy():
    values = np.array([[1.0, 2, 4, np.nan], [0.1, -0.2, 0.5, 0.3]])
    mean, low, high = students_interval(values, 0.9)
    for i, one in enumerate(([1.0, 2, 4], values[1])):
        expected = stats.ttest_1samp(one, 0)
        ends = expected.confidence_interval(0.9)
        np.testing.assert_allclose([mean[i], low[i], high[i]], [np.mean(one), ends.low, ends.high])
        assert students_p(values)[i] == pytest.approx(expected.pvalue)
        assert students_p(values, alternative="greater")[i] == pytest.approx(expected.pvalue / 2)


@pytest.mark.parametrize("values", [[0.0] * 5, [3.0] * 5, [0.5 - 0.4, 0.6 - 0.5, 0.7 - 0.6], [1.0], [], [np.nan, 2.0]])
def test_values_that_are_alike_or_too_few_say_nothing(values):
    values = np.array(values)
    _, low, high = students_interval(values, 0.95)
    assert np.isnan([low, high, students_p(values)]).all()
    assert not informative(values)


def test_fewer_than_are_enough_say_nothing():
    values = np.array([0.1, 0.2])
    assert np.isfinite(students_interval(values, 0.95)[1])
    assert np.isnan(students_interval(values, 0.95, fewest=3)[1])
    assert np.isnan(students_p(values, fewest=3))


def test_the_interval_covers():
    draws = np.random.default_rng(0).normal(0.2, 0.1, (2000, 5))
    _, low, high = students_interval(draws, 0.95)
    assert 0.94 < ((low < 0.2) & (high > 0.2)).mean() < 0.96


def test_it_is_cut_where_a_mean_cannot_be():
    mean, low, high = students_interval(np.array([0.0, 0.0, 0.1]), 0.95, within=(0, 1))
    assert (low, high) == (0, pytest.approx(students_interval(np.array([0.0, 0.0, 0.1]), 0.95)[2]))
    assert mean == pytest.approx(0.1 / 3)


@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_two_means_are_compared_as_by_scipy_in_any_unit(unit):
    a, b = np.random.default_rng(0).normal(0.3, [[0.1], [0.3]], (2, 7)), np.array([0.1, -0.2, 0.5, 0.3])
    a[0, 2] = np.nan
    t, freedom = welch(a * unit, np.stack([b, b]) * unit)
    for i in range(2):
        expected = stats.ttest_ind(a[i], b, equal_var=False, nan_policy="omit")
        assert (t[i], freedom[i]) == pytest.approx((expected.statistic, expected.df))


def test_one_sample_that_does_not_vary_is_compared_and_two_say_nothing():
    """As where scores begin at 0 for every image, or end at one ceiling; scipy warns of them."""
    varied = np.array([1.0, 2, 4])
    for constant in (0.0, 0.1, 3.0):
        t, freedom = welch(np.full(5, constant), varied)
        expected = (constant - varied.mean()) / np.sqrt(varied.var(ddof=1) / 3)
        assert (t, freedom) == pytest.approx((expected, 2))
        nearly = np.array([constant, np.nextafter(constant, 1), constant])
        assert np.isnan(welch(nearly, np.full(4, 7.0))).all()
    assert np.isnan(welch(varied[:1], varied)).all()
    assert np.isnan(welch(varied, np.empty(0))).all()
