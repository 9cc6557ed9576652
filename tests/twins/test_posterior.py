"""The posterior of a readout: against formulas over weights, and against its own draws."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.twins.posterior import Posterior, believe, layer_kernels, score_noise
from closedloop.twins.ridge import fit_ridge


def example(n=12, d=5, ratio=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x, scales = rng.standard_normal((n, d)).astype(np.float32), rng.uniform(0.1, 1, d).astype(np.float32)
    y, profile = 2 + rng.standard_normal(n), rng.uniform(0.5, 2, n)
    kernel = (x * scales).astype(float) @ x.T
    return (
        Posterior(x, kernel, scales, y, profile, ratio),
        x.astype(float),
        scales.astype(float),
        y,
        profile,
        ratio,
    )


def over_weights(x, scales, y, profile, ratio):
    """Mean and covariance over τ² of the weights, by normal equations: (Xᵀ R⁻¹ X / λ + S⁻¹)⁻¹."""
    bias = (y / profile).sum() / (1 / profile).sum()
    covariance = np.linalg.inv(x.T @ (x / profile[:, None]) / ratio + np.diag(1 / scales))
    return bias, covariance @ x.T @ ((y - bias) / profile) / ratio, covariance


def test_mean_and_spread_are_those_over_weights():
    posterior, x, scales, y, profile, ratio = example()
    bias, weights, covariance = over_weights(x, scales, y, profile, ratio)
    np.testing.assert_allclose(posterior.weights, weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(posterior.expected, bias + x @ weights, rtol=1e-5)
    new = np.random.default_rng(9).standard_normal((4, 5)).astype(np.float32)
    np.testing.assert_allclose(posterior.mean(new), bias + new @ weights, rtol=1e-5)
    variance = np.einsum("ij,jk,ik->i", new, covariance, new) + ratio * np.arange(1, 5)
    np.testing.assert_allclose(posterior.spread(new, np.arange(1.0, 5)), np.sqrt(posterior.prior * variance), rtol=1e-3)


def test_draws_have_its_mean_and_covariance():
    posterior, x, scales, y, profile, ratio = example()
    _, weights, covariance = over_weights(x, scales, y, profile, ratio)
    draws = posterior.draw(20_000, np.random.default_rng(1)).astype(float)
    sd = np.sqrt(posterior.prior * np.diag(covariance))
    assert np.abs((draws.mean(0) - weights) / sd).max() < 0.05
    np.testing.assert_allclose(np.cov(draws.T), posterior.prior * covariance, atol=0.05 * (sd**2).max())


def test_left_out_is_what_a_fit_without_the_image_says():
    posterior, x, scales, y, profile, ratio = example()
    bias, found = posterior.bias, posterior.left_out()
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        covariance = np.linalg.inv(x[rest].T @ (x[rest] / profile[rest, None]) / ratio + np.diag(1 / scales))
        weights = covariance @ x[rest].T @ ((y[rest] - bias) / profile[rest]) / ratio
        assert found[i] == pytest.approx(bias + x[i] @ weights, rel=1e-4)


def test_images_that_are_alike_need_some_noise():
    x = np.ones((6, 3), np.float32)
    posterior = Posterior(x, np.ones((6, 6)), np.full(3, 1 / 3, np.float32), np.arange(6.0), np.ones(6), 1e-30)
    assert posterior.ratio > 1e-30
    assert np.isfinite(posterior.weights).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_the_evidence_finds_the_layer_that_says_it(layer):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((120, 60)).astype(np.float32)
    columns = [np.arange(30), np.arange(30, 60)]
    y = x[:, columns[layer]] @ rng.standard_normal(30) + 0.5 * rng.standard_normal(120)
    found = believe(x, columns, y, np.full(120, y.mean()))
    np.testing.assert_array_equal(found.shares, np.eye(2)[layer])
    assert found.power == 0
    assert 1 / 120 <= found.ratio < 1


def test_few_images_choose_neither_layer_nor_silence():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((8, 60)).astype(np.float32), rng.standard_normal(8)
    found = believe(x, [np.arange(30), np.arange(30, 60)], y, np.zeros(8))
    np.testing.assert_array_equal(found.shares, [0.5, 0.5])
    assert 1 / 8 <= found.ratio <= 100


def test_noise_grows_with_what_is_expected():
    np.testing.assert_allclose(score_noise(np.array([0.0, 1, 2]), 1), np.array([0.2, 1.2, 2.2]) / 1.2)
    np.testing.assert_array_equal(score_noise(np.array([0.0, 1, 2]), 0), np.ones(3))


def counted(y=None):
    """A posterior of mean responses to images that were shown unequally often, and what it is of."""
    rng = np.random.default_rng(0)
    columns = {"one": np.arange(3), "two": np.arange(3, 8)}
    x, count = rng.standard_normal((30, 8)).astype(np.float32), rng.integers(1, 4, 30).astype(float)
    y = x @ rng.standard_normal(8) + 0.3 * rng.standard_normal(30) + 2 if y is None else y
    return Posterior.of(x, columns, y, count), x, columns, y, count


def test_of_mean_responses_it_predicts_what_the_ridge_does():
    posterior, x, columns, y, count = counted()
    kernels = layer_kernels(x, columns.values())
    expected = fit_ridge(kernels, y[:, None], count).predict(kernels)[:, 0]
    np.testing.assert_allclose(posterior.mean(x), expected, rtol=1e-4)


def test_of_mean_responses_its_draws_heed_how_often_an_image_was_shown():
    posterior, x, *_, count = counted()
    drawn = posterior.draw(20_000, np.random.default_rng(1)).astype(float)
    # Rasmussen & Williams 2006, equation 2.8: A = Xᵀ (n / σ²) X + P⁻¹, all over τ².
    precision = (x.T * count / posterior.ratio) @ x.astype(float) + np.diag(1 / posterior._scales.astype(float))
    covariance = posterior.prior * np.linalg.inv(precision)
    np.testing.assert_allclose(drawn.mean(0), posterior.weights, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05 * np.diag(covariance).max())


def test_of_responses_that_do_not_vary_nothing_is_believed():
    assert counted(np.full(30, 2.0))[0] is None
