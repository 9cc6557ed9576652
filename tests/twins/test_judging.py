"""Ceiling, folds and what a course explains, on numbers with known answers."""

import numpy as np
import pytest

from closedloop.twins.judging import FOLDS, ceiling, correlation_interval, held_out, within


def test_the_ceiling_is_what_the_signal_itself_reaches():
    rng = np.random.default_rng(0)
    count = rng.integers(1, 6, 4000)
    signal = rng.normal(size=4000)
    trials = [signal[i] + 1.5 * rng.normal(size=n) for i, n in enumerate(count)]
    mean = np.array([t.mean() for t in trials])
    squares = np.array([((t - t.mean()) ** 2).sum() for t in trials])
    found, why = ceiling(mean, count.astype(float), squares)
    assert why == ""
    assert found == pytest.approx(np.corrcoef(signal, mean)[0, 1], abs=0.03)


def test_without_repeats_there_is_no_ceiling_and_without_noise_it_is_one():
    mean = np.arange(5.0)
    found, why = ceiling(mean, np.ones(5), np.zeros(5))
    assert np.isnan(found)
    assert "no image was presented twice" in why
    assert ceiling(mean, np.full(5, 2.0), np.zeros(5))[0] == 1


def test_an_image_is_never_predicted_from_itself():
    """Of far more features than images each image is like itself alone: from others little can be said of it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5000))
    y = x @ rng.normal(size=(5000, 1))
    predicted, sizes = held_out((x @ x.T / 5000)[None], y, np.ones(60), 0)
    assert sizes[-1] == 60 - 60 // FOLDS
    assert np.isfinite(predicted).all()
    assert abs(np.corrcoef(predicted[-1, :, 0], y[:, 0])[0, 1]) < 0.6


def test_the_interval_holds_the_correlation():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        x = rng.normal(size=100)
        _, low, high = correlation_interval(x, 0.6 * x + 0.8 * rng.normal(size=100), seed)
        held += low < 0.6 < high
    assert held >= 34


def test_the_course_of_an_evolution_is_taken_out():
    group = np.repeat([0, 1, 2], 4)
    values = np.arange(12.0) + 10 * group
    np.testing.assert_allclose(within(values, group), np.tile([-1.5, -0.5, 0.5, 1.5], 3))
