"""The readout against formulas: the posterior mean, and evidence that finds the noise it was given."""

import numpy as np
import pytest
from scipy import stats

from closedloop.twins.ridge import RATIOS, fit_ridge, mixtures


def drawn(n: int = 80, d: int = 30, noise: float = 0.5, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, x @ rng.normal(size=d) / np.sqrt(d), rng.normal(size=n) * noise


def test_predictions_are_those_of_the_closed_formula():
    x, signal, error = drawn()
    count = np.random.default_rng(1).integers(1, 5, 80).astype(float)
    y = signal + error / np.sqrt(count) + 7
    found = fit_ridge((x @ x.T / 30)[None], y[:, None], count)
    bias = (count * y).sum() / count.sum()
    # w = (Xᵀ N X / d + λ I)⁻¹ Xᵀ N (y - ȳ) / d, with N = diag(n).
    w = np.linalg.solve((x.T * count) @ x / 30 + found.ratio[0] * np.eye(30), (x.T * count) @ (y - bias) / 30)
    new = np.random.default_rng(2).normal(size=(5, 30))
    np.testing.assert_allclose(found.predict((new @ x.T / 30)[None])[:, 0], new @ w + bias, rtol=1e-8)


def test_an_image_shown_twice_counts_as_two_rows():
    x, signal, error = drawn()
    y = signal + error
    once = fit_ridge((x @ x.T / 30)[None], y[:, None], np.full(80, 2.0))
    two = np.concatenate([x, x])
    twice = fit_ridge((two @ two.T / 30)[None], np.concatenate([y, y])[:, None], np.ones(160))
    new = np.random.default_rng(2).normal(size=(5, 30))
    by_row = [f.predict((new @ rows.T / 30)[None]) for f, rows in ((once, x), (twice, two))]
    weights = [f.ratio[0] for f in (once, twice)]
    if weights[0] == weights[1]:  # repeats that are equal by the copy promise less noise
        np.testing.assert_allclose(*by_row)
    assert weights[1] <= weights[0]


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_evidence_finds_the_noise(noise):
    ratios = []
    for seed in range(8):
        x, signal, error = drawn(n=200, noise=noise, seed=seed)
        ratios.append(fit_ridge((x @ x.T / 30)[None], (signal + error)[:, None], np.ones(200)).ratio[0])
    assert 0.4 < np.median(ratios) / noise**2 < 2.5


def test_evidence_is_the_marginal_likelihood():
    x, signal, error = drawn(n=20)
    kernel, y = x @ x.T / 30, signal + error
    found = fit_ridge(kernel[None], y[:, None], np.ones(20))

    def likelihood(ratio):
        covariance = kernel + ratio * np.eye(20)
        rest = y - y.mean()
        prior = rest @ np.linalg.solve(covariance, rest) / 20
        return stats.multivariate_normal(np.zeros(20), prior * covariance).logpdf(rest)

    values = [likelihood(ratio) for ratio in RATIOS]
    assert RATIOS[int(np.argmax(values))] == found.ratio[0]


def test_the_layer_that_the_unit_reads_is_chosen():
    x, signal, error = drawn(n=120, noise=0.1)
    other = np.random.default_rng(5).normal(size=(120, 30))
    kernels = np.stack([other @ other.T, x @ x.T]) / 30
    found = fit_ridge(kernels, np.stack([signal + error, error], 1), np.ones(120))
    assert found.shares[:, 0].tolist() == [0, 1]
    assert mixtures(2).sum(1).tolist() == [1, 1, 1]


def test_a_unit_that_never_varies_is_predicted_by_its_mean():
    x, _, _ = drawn()
    found = fit_ridge((x @ x.T / 30)[None], np.full((80, 1), 3.0), np.ones(80))
    assert found.predict((x[:4] @ x.T / 30)[None]).ravel().tolist() == [3.0] * 4
