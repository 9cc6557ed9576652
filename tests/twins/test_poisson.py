"""Readouts of spikes: a Poisson neuron is found again, and what is said of left-out images is what a fit says."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.protocols import present
from closedloop.twins import fit_twin
from closedloop.twins.poisson import fit_poisson, responding
from closedloop.twins.posterior import PoissonPosterior
from tests import small_places
from tests.small_places import Patches


def neuron(n=200, d=12, mean=1.5, seed=0, drive=1.0, bias=-0.3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    weights = drive * rng.standard_normal(d) / np.sqrt(d)
    return x, weights, rng.poisson(responding(x @ weights + bias, mean)).astype(float), rng


def test_a_poisson_neuron_is_found():
    x, weights, y, _ = neuron(2000)
    found = fit_poisson((x @ x.T / 12).astype(float), y, np.ones(len(y)))
    z = x.T @ found.dual / 12
    np.testing.assert_allclose(found.size * z, 1.5 * weights, atol=0.15)
    assert found.dispersion * found.size == pytest.approx(1, abs=0.1)


def test_spikes_are_used_better_than_by_least_squares():
    """Over ten neurons that are silent for most images; docs/twins.md says what others gain."""
    from closedloop.twins.ridge import fit_ridge

    gains = []
    for seed in range(10):
        x, weights, y, rng = neuron(100, 30, 1.0, seed, drive=2.0, bias=-1.0)
        kernel = (x @ x.T / 30).astype(float)
        fresh = rng.standard_normal((500, 30)).astype(np.float32)
        truth = responding(fresh @ weights - 1.0, 1.0)
        spikes, ridge = fit_poisson(kernel, y, np.ones(100)), fit_ridge(kernel[None], y[:, None], np.ones(100))
        cross = fresh @ x.T / 30
        found = responding(spikes.bias + cross @ spikes.dual, spikes.size)
        linear = ridge.predict(cross[None])[:, 0]
        gains.append(np.corrcoef(found, truth)[0, 1] - np.corrcoef(linear, truth)[0, 1])
    assert np.mean(gains) > 0.05


def test_left_out_is_what_a_fit_without_the_image_says():
    x, _, y, _ = neuron(60)
    kernel = (x @ x.T / 12).astype(float)
    found = fit_poisson(kernel, y, np.ones(60), 0.1)
    for i in range(5):
        rest = np.delete(np.arange(60), i)
        without = fit_poisson(kernel[np.ix_(rest, rest)], y[rest], np.ones(59), 0.1)
        z = without.bias + kernel[i, rest] @ without.dual
        assert found.left_out[i] == pytest.approx(z, abs=0.1)


def test_presentations_count_as_often_as_they_were():
    """A mean of two presentations is two presentations."""
    x, _, y, rng = neuron(40)
    twice = np.concatenate([y, rng.permutation(y)])
    once = fit_poisson((x @ x.T / 12).astype(float), (twice[:40] + twice[40:]) / 2, np.full(40, 2.0), 0.2)
    z = np.concatenate([x, x])
    each = fit_poisson((z @ z.T / 12).astype(float), twice, np.ones(80), 0.2)
    np.testing.assert_allclose(each.dual[:40] + each.dual[40:], once.dual, atol=2e-3)


def test_silence_is_no_error():
    x, _, _, _ = neuron(20)
    found = fit_poisson((x @ x.T / 12).astype(float), np.zeros(20), np.ones(20))
    assert not responding(found.bias + found.dual, found.size).any()


def test_draws_rise_with_what_is_expected_and_intervals_hold_scores():
    x, weights, y, rng = neuron(400)
    scales = np.full(12, 1 / 12, np.float32)
    posterior = PoissonPosterior(x, (x * scales).astype(float) @ x.T, scales, y)
    drawn = posterior.draw(200, np.random.default_rng(1))
    np.testing.assert_allclose(drawn.mean(0), posterior.weights, atol=0.03)
    fresh = rng.standard_normal((2000, 12)).astype(np.float32)
    expected = responding(fresh @ weights - 0.3, 1.5)
    assert np.corrcoef(posterior.mean(fresh), expected)[0, 1] > 0.95
    scores = rng.poisson(expected)
    inside = np.abs(scores - posterior.mean(fresh)) <= 1.645 * posterior.spread(fresh, np.ones(2000))
    assert 0.86 < inside.mean() < 0.96
    assert np.corrcoef(posterior.left_out(), y)[0, 1] > 0.4


@pytest.fixture(scope="module")
def recording():
    images = small_places.shown(300)
    return present(small_places.spiking(), images, progress=False, resolution=small_places.SIZE)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("readout", ["poisson", "factorized-poisson"])
def test_a_twin_of_spikes_predicts_what_is_expected(recording, readout):
    twin = fit_twin(recording, Patches(), readout=readout, references=small_places.shown(300))
    fresh = small_places.shown(300, seed=9).images
    found, truth = twin.record(fresh), responding(small_places.drives(fresh) - 1, 1.0)
    assert found.min() >= 0
    least = 0.85 if readout == "poisson" else 0.95
    assert np.corrcoef(found[:, 0], truth[:, 0])[0, 1] > least
    import torch

    forward = twin.forward(torch.from_numpy(fresh[:5])).detach().numpy()
    np.testing.assert_allclose(forward, found[:5], rtol=1e-4, atol=1e-5)


def test_responses_below_zero_are_no_spikes():
    images = small_places.shown(20)
    recording = present(small_places.looking(5.0), images, progress=False, resolution=small_places.SIZE)
    with pytest.raises(InvalidArgumentError, match="expected responses of at least 0, got -"):
        fit_twin(recording, Patches(), readout="poisson", references=images)
