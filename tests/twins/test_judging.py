"""Ceiling, folds and what a course explains, on numbers with known answers."""

import numpy as np
import pytest

from closedloop.twins import judging
from closedloop.twins.judging import (
    FOLDS,
    ceiling,
    correlation_interval,
    held_out,
    images_needed,
    normalized_interval,
    within,
)
from closedloop.twins.reading import Read, fit_kind


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
    read = Read(x, {}, (x @ x.T / 5000)[None])

    def fit(train):
        made = fit_kind(read.rows(train), "ridge", y[train], np.ones(len(train)))
        return lambda test: made.predict(read, train, test)

    predicted, sizes = held_out(fit, 60, 1, 0)
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


def simulated(seed, n=200, repeats=3, truth=0.7, noise=1.0):
    """Predictions that correlate with the noiseless responses by a known number."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    predicted = truth * signal + np.sqrt(1 - truth**2) * rng.normal(size=n)
    trials = signal[:, None] + noise * rng.normal(size=(n, repeats))
    mean = trials.mean(1)
    return predicted, mean, np.full(n, float(repeats)), ((trials - mean[:, None]) ** 2).sum(1)


def test_the_interval_of_the_normalized_correlation_holds_the_true_one(monkeypatch):
    """Over 40 simulations here; docs/twins.md says what 300 gave."""
    monkeypatch.setattr(judging, "RESAMPLES", 100)
    ends = [normalized_interval(*simulated(seed), seed) for seed in range(40)]
    assert sum(low <= 0.7 <= high for low, high in ends) >= 34
    assert all(high - low < 0.4 for low, high in ends)


def test_without_repeats_there_is_no_interval():
    predicted, mean, count, _ = simulated(0, repeats=1)
    assert np.isnan(normalized_interval(predicted, mean, count, np.zeros(len(mean)), 0)).all()


def test_a_learning_curve_says_how_many_images_are_needed():
    sizes = np.array([20, 40, 80, 160])
    needed, limit = images_needed(sizes, 0.8 * np.sqrt(sizes / (sizes + 50)))
    assert limit == pytest.approx(0.8, abs=0.01)
    assert needed == pytest.approx(50 * 0.81 / 0.19, rel=0.05)
    assert images_needed(sizes, np.full(4, 0.5)) == (0, 0.5)
    assert np.isnan(images_needed(sizes, np.array([0.1, 0.2, 0.4, 0.8]))[0])
    assert np.isnan(images_needed(sizes[:2], np.array([0.3, 0.4]))).all()
