"""Draws of a readout have the mean and the covariance of the posterior."""

import numpy as np
import pytest

from closedloop.twins.drawing import Posterior
from closedloop.twins.ridge import fit_ridge

COLUMNS = {"one": np.arange(3), "two": np.arange(3, 8)}


@pytest.fixture(scope="module")
def posterior():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 8)).astype(np.float32)
    y = x @ rng.standard_normal(8) + 0.3 * rng.standard_normal(30) + 2
    return Posterior.of(x, COLUMNS, y, rng.integers(1, 4, 30).astype(float))


def test_its_mean_is_the_prediction_of_the_ridge(posterior):
    x = posterior.x.astype(float)
    kernels = np.stack([x[:, at] @ x[:, at].T / len(at) for at in COLUMNS.values()])
    ridge = fit_ridge(kernels, posterior.y[:, None], posterior.count)
    np.testing.assert_allclose(x @ posterior.weights() + posterior.bias, ridge.predict(kernels)[:, 0], rtol=1e-4)


def test_draws_have_the_mean_and_the_covariance_of_the_posterior(posterior):
    drawn = posterior.draw(20_000, np.random.default_rng(1))
    x, share = posterior.x.astype(float), posterior._share
    prior, ratio = float(posterior.ridge.prior[0]), float(posterior.ridge.ratio[0])
    # Rasmussen & Williams 2006, equation 2.8: A = Xᵀ (n / σ²) X + P⁻¹.
    precision = (x.T * posterior.count / (ratio * prior)) @ x + np.diag(1 / (prior * share))
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(drawn.mean(1), posterior.weights(), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn), covariance, atol=0.05 * np.diag(covariance).max())


def test_responses_that_do_not_vary_leave_nothing_to_draw():
    x = np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)
    flat = Posterior.of(x, COLUMNS, np.full(12, 2.0), np.ones(12))
    assert not flat.draw(3, np.random.default_rng(0)).any()
    assert flat.bias == 2
