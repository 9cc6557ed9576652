"""The Gaussian process: against its definition, and against what it is for."""

import numpy as np
import pytest
from scipy import stats

from closedloop.analysis.smoothing import LENGTHS, NOISE_RATIOS, smooth


def test_it_is_the_likeliest_process_of_the_grid(rng):
    x = np.arange(12.0)
    y = np.sin(x / 3) + 0.2 * rng.standard_normal(12)
    center = y.mean()
    best = (-np.inf, None)
    for length in LENGTHS:
        kernel = np.exp(-0.5 * ((x[:, None] - x) / length) ** 2)
        for ratio in NOISE_RATIOS:
            covariance = kernel + ratio * np.eye(12)
            variance = (y - center) @ np.linalg.solve(covariance, y - center) / 12
            value = stats.multivariate_normal(np.full(12, center), variance * covariance).logpdf(y)
            if value > best[0]:
                best = (value, center + kernel @ np.linalg.solve(covariance, y - center))
    np.testing.assert_allclose(smooth(x, y), best[1], rtol=1e-8)


def test_it_comes_nearer_to_the_truth_than_the_data(rng):
    x = np.arange(40.0)
    truth = 10 * (1 - np.exp(-x / 8))
    noisy = truth + rng.standard_normal(40)
    assert np.abs(smooth(x, noisy) - truth).mean() < 0.7 * np.abs(noisy - truth).mean()


def test_gaps_are_filled_and_constants_kept():
    x = np.arange(20.0)
    y = np.cos(x / 5)
    y[7] = np.nan
    assert smooth(x, y)[7] == pytest.approx(np.cos(7 / 5), abs=0.01)
    np.testing.assert_array_equal(smooth(x, np.full(20, 3.0)), 3.0)


def test_two_values_are_too_few():
    assert np.isnan(smooth(np.arange(3.0), np.array([1.0, np.nan, 2.0]))).all()
