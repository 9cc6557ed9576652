"""Noise: its moments, its seeds, and what recorded sessions look like."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.images.sets import natural_references
from closedloop.subjects import (
    Drift,
    EnergySubject,
    FunctionSubject,
    Gain,
    Lossy,
    NegativeBinomial,
    Poisson,
    load_subject,
)
from closedloop.subjects.noise import best_natural
from closedloop.testing import SubjectContract

CELL = EnergySubject(orientation_deg=[0.0, 45.0], cycles_per_image=4.0, resolution=32)
GREY = np.full((1, 3, 8, 8), 0.5, np.float32)


def images(n=4):
    return np.random.default_rng(0).random((n, 3, 32, 32), dtype=np.float32)


def constant(*responses):
    """A subject that always answers the same, ``(units,)`` or ``(units, time)``."""
    answer = np.array(responses)
    return FunctionSubject(lambda shown: np.broadcast_to(answer, (len(shown), *answer.shape)), units=len(answer))


def many(subject, n=20000):
    return subject.record(np.broadcast_to(GREY, (n, 3, 8, 8)))


class TestPoissonContract(SubjectContract):
    noisy = True

    def make(self):
        return Poisson(CELL, spikes=20, best=0.5)


class TestNegativeBinomialContract(SubjectContract):
    noisy = True

    def make(self):
        return NegativeBinomial(CELL, best=[0.5, 0.4])


class TestGainContract(SubjectContract):
    noisy = True

    def make(self):
        return Gain(CELL, nu=0.5)


class TestDriftContract(SubjectContract):
    noisy = True

    def make(self):
        return Drift(CELL)


class TestNoGainContract(SubjectContract):
    """Without noise nothing changes."""

    def make(self):
        return Gain(CELL, nu=0.0)


def test_poisson_has_the_stated_spikes_at_the_best():
    """Mean as without noise; variance a / s; whole numbers of spikes."""
    best = np.array([2.0, 8.0])
    found = many(Poisson(constant(2.0, 4.0), spikes=20, best=best))
    np.testing.assert_allclose(found.mean(0), [2.0, 4.0], rtol=0.01)
    np.testing.assert_allclose(found.var(0), np.array([2.0, 4.0]) * best / 20, rtol=0.05)
    counts = found / best * 20
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)


def test_negative_binomial_varies_more():
    found = many(NegativeBinomial(constant(2.0), spikes=20, best=2.0, gain_variance=0.3), 100_000) * 10
    assert found.mean() == pytest.approx(20, rel=0.01)
    assert found.var() == pytest.approx(20 + 0.3 * 400, rel=0.05)


def test_below_zero_there_are_no_spikes_and_lost_stays_lost():
    for noise in (Poisson, NegativeBinomial):
        found = many(noise(constant(-3.0, np.nan), best=1.0), 5)
        np.testing.assert_array_equal(found[:, 0], 0)
        assert np.isnan(found[:, 1]).all()


def test_time_bins_are_drawn_each():
    found = many(Poisson(constant([1.0, 3.0], [2.0, 0.0]), spikes=10, best=[1.0, 2.0]), 5000)
    np.testing.assert_allclose(found.mean(0), [[1.0, 3.0], [2.0, 0.0]], rtol=0.03)
    assert abs(np.corrcoef(found[:, 0, 0], found[:, 0, 1])[0, 1]) < 0.05


def test_the_best_response_is_that_to_the_bundled_photographs():
    shown = natural_references(32).images
    expected = CELL.record(shown).max(0)
    np.testing.assert_allclose(best_natural(CELL), expected)
    subject = Poisson(CELL, spikes=20)
    np.testing.assert_allclose(subject.best, expected)
    picture = np.repeat(shown[[CELL.record(shown)[:, 1].argmax()]], 4000, axis=0)
    assert subject.record(picture)[:, 1].mean() / expected[1] * 20 == pytest.approx(20, rel=0.02)


def test_measuring_the_best_leaves_no_trace():
    """A noisy subject inside goes on as if nothing had been shown; the recipe holds what was measured."""
    stack = Poisson(Gain(CELL, seed=1))
    recipe = dict(stack.recipe)
    again = load_subject(recipe.pop("name"), **recipe)
    np.testing.assert_array_equal(again.record(images()), stack.record(images()))
    np.testing.assert_array_equal(again.best, stack.best)


def test_gain_multiplies_and_never_inverts():
    found = many(Gain(constant(4.0, 0.0), nu=0.5))
    assert found[:, 0].mean() == pytest.approx(4, rel=0.03)
    assert found[:, 0].std() == pytest.approx(2, rel=0.05)
    assert (many(Gain(constant(4.0), nu=2.0)) >= 0).all()
    np.testing.assert_array_equal(found[:, 1], 0)


def test_a_shared_gain_correlates_the_units():
    own, shared = (many(Gain(constant(4.0, 2.0), nu=0.2, shared=s)) for s in (False, True))
    assert abs(np.corrcoef(own.T)[0, 1]) < 0.05
    assert np.corrcoef(shared.T)[0, 1] == pytest.approx(1)
    bins = many(Gain(constant([1.0, 2.0], [1.0, 3.0]), nu=0.2), 50)
    np.testing.assert_allclose(bins[..., 0] * [2.0, 3.0], bins[..., 1])


def test_drift_without_wandering_is_its_trend():
    subject = Drift(constant(2.0), change=-0.1, session=100, wander=0.0)
    found = np.concatenate([many(subject, 40), many(subject, 61)])[:, 0]
    np.testing.assert_allclose(found, 2 * 0.9 ** (np.arange(101) / 100))


def test_drift_goes_on_from_batch_to_batch():
    """One image at a time or all at once: the same fluctuation, with its standard deviation and memory."""
    found = many(Drift(constant(1.0), change=0.0, wander=0.2, memory=10, seed=5), 300_000)[:, 0]
    assert found.mean() == pytest.approx(1, rel=0.02)
    log = np.log(found)
    assert log.std() == pytest.approx(0.2, rel=0.03)
    assert np.corrcoef(log[:-10], log[10:])[0, 1] == pytest.approx(np.exp(-1), abs=0.03)
    single = Drift(constant(1.0), wander=0.2, seed=5)
    pieces = np.concatenate([many(single, 1) for _ in range(20)])
    np.testing.assert_allclose(pieces, many(Drift(constant(1.0), wander=0.2, seed=5), 20))


def test_units_wander_by_themselves():
    found = many(Drift(constant(1.0, 1.0), change=0.0, wander=0.2, memory=2))
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.05


def test_drift_looks_like_recorded_sessions():
    """Per generation of 80: CV 11 %, last / first .87 to .92, |r| > .5 in a fifth to a third of the sessions."""
    sessions = many(Drift(constant(*[1.0] * 400)), 27 * 80).reshape(27, 80, 400).mean(1)
    sessions *= 1 + 0.04 * np.random.default_rng(0).standard_normal(sessions.shape)  # the published error of a mean
    assert np.median(sessions.std(0, ddof=1) / sessions.mean(0)) == pytest.approx(0.11, abs=0.01)
    assert 0.87 <= np.median(sessions[-1] / sessions[0]) <= 0.92
    r = [np.corrcoef(s, np.arange(27))[0, 1] for s in sessions.T]
    assert 0.2 < np.mean(np.abs(r) > 0.5) < 0.33


def test_stacked_noise_with_one_seed_is_independent():
    gain, poisson = many(Gain(constant(1.0), nu=0.2, seed=3)), many(Poisson(constant(1.0), best=1.0, seed=3))
    assert abs(np.corrcoef(gain[:, 0], poisson[:, 0])[0, 1]) < 0.05
    twice = many(Gain(Gain(constant(1.0), nu=0.2, shared=True, seed=3), nu=0.2, seed=3))
    assert np.isclose(twice.mean(), 1, atol=0.01)
    assert np.isclose(twice.std(), np.sqrt(1.04**2 - 1), atol=0.01)
    lost = many(Lossy(Lossy(constant(1.0), 0.1), 0.1))
    assert np.isclose(np.isnan(lost).mean(), 0.19, atol=0.015)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poisson(CELL, spikes=0), "spikes: expected a finite number of at least 1e-06, got 0"),
        (lambda: Poisson(CELL, best=[1.0, 0.0]), "best: expected finite responses above 0, got 0 at the least"),
        (lambda: Poisson(CELL, best=[1.0] * 3), r"best: expected one number or 2, got shape \(3,\)"),
        (lambda: Poisson(CELL, best="high"), "best: expected one number, or one for each unit, got 'high'"),
        (lambda: Poisson(constant(1.0)), "best: subject '.*' has no resolution"),
        (lambda: NegativeBinomial(CELL, gain_variance=-1), "gain_variance: expected a finite number"),
        (lambda: Gain(CELL, nu=np.nan), "nu: expected a finite number of at least 0"),
        (lambda: Drift(CELL, change=-1), "change: expected a finite number of at least -0.999, got -1"),
        (lambda: Drift(CELL, memory=0), "memory: expected a finite number"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
