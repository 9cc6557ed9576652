"""Gradient ascent: the contract under each policy, optima that are known, and numbers that were published."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import GradientAscent
from closedloop.optimizers.gradient.regularizers import Clip, Decay, FixedNorm
from closedloop.testing import OptimizerContract

FREE = Space(12)


class TestConstant(OptimizerContract):
    def make(self, space, seed):
        return GradientAscent(space, seed, steps=400, policy="constant", rate=0.1, regularizers=[Clip(-9, 9)])


class TestMean(OptimizerContract):
    def make(self, space, seed):
        return GradientAscent(space, seed, steps=400, policy="mean", rate=0.2, last_rate=0.001, copies=2)


class TestProgress(OptimizerContract):
    def make(self, space, seed):
        return GradientAscent(space, seed, steps=400, policy="progress", rate=0.05, max_rate=0.2)


class TestProgress01(OptimizerContract):
    def make(self, space, seed):
        return GradientAscent(space, seed, steps=400, policy="progress01", rate=0.05, late=0.1, max_rate=0.2)


class TestMomentum(OptimizerContract):
    def make(self, space, seed):
        options = {"policy": "mean", "rate": 0.1, "last_rate": 0.001, "momentum": 0.5, "regularizers": [Decay(0.001)]}
        return GradientAscent(space, seed, steps=400, **options)


def climb(optimizer, score, gradient, steps):
    """The codes after some steps, and the scores on the way."""
    scores = []
    for _ in range(steps):
        codes = optimizer.ask()
        scores.append(score(codes))
        optimizer.tell(codes, scores[-1], gradient(codes))
    return optimizer.ask(), np.array(scores)


def linear(w):
    return (lambda x: x @ w), (lambda x: np.broadcast_to(w, x.shape).copy())


def weights(seed=0, dim=12):
    return np.random.default_rng(seed).standard_normal(dim)


def test_linear_on_a_sphere_and_in_a_box():
    w = weights()
    on_sphere = GradientAscent(FREE, 1, steps=80, policy="constant", rate=1.0, regularizers=[FixedNorm(5.0)])
    x, scores = climb(on_sphere, *linear(w), 80)
    assert x[0] @ w / (np.linalg.norm(w) * np.linalg.norm(x)) >= 0.999
    assert scores[-1, 0] == pytest.approx(5 * np.linalg.norm(w), rel=1e-3)
    box = Space(12, low=-1.0, high=2.0)
    x, _ = climb(GradientAscent(box, 1, steps=80, policy="mean", rate=0.5), *linear(w), 80)
    np.testing.assert_array_equal(x[0], np.where(w > 0, 2.0, -1.0))


@pytest.mark.parametrize(("share", "steps", "expected"), [(0.3, 750, 233.333333), (1e-4, 1000, 95157.6)])
def test_fixed_points_of_the_published_decays(share, steps, expected):
    w = weights()
    options = {"policy": "constant", "rate": 100.0, "regularizers": [Decay(share)], "start": np.zeros(12), "unit": 1.0}
    x, _ = climb(GradientAscent(FREE, steps=steps, **options), *linear(w), steps)
    np.testing.assert_allclose(x[0], expected * w, rtol=1e-6)


def test_progress_gains_what_it_was_asked_for_until_its_limit():
    w = weights()
    _, scores = climb(GradientAscent(FREE, steps=20, policy="progress", rate=2.0), *linear(w), 20)
    np.testing.assert_allclose(np.diff(scores[:, 0]), 2.0, rtol=1e-9)
    limited = GradientAscent(FREE, steps=20, policy="progress", rate=2.0, max_rate=0.01)
    _, scores = climb(limited, *linear(w), 20)
    np.testing.assert_allclose(np.diff(scores[:, 0]), 0.01 * (w @ w), rtol=1e-9)


def test_progress01_slows_down_near_certainty():
    optimizer = GradientAscent(FREE, steps=9, policy="progress01", rate=0.02, late=0.1, start=np.zeros(12), unit=1.0)
    w = weights()
    for score, gain in ((0.1, 0.02), (0.9, 0.01), (0.999, 0.0001)):
        before = optimizer.ask()
        optimizer.tell(before, np.array([score]), w[None])
        assert (optimizer.ask() - before)[0] @ w == pytest.approx(gain)


def test_quadratic_on_a_sphere_finds_the_top_eigenvector_at_the_known_speed():
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    values = np.linspace(0.2, 4.0, 20)
    q, radius, rate = basis * values @ basis.T, 3.0, 0.5
    optimizer = GradientAscent(Space(20), 0, steps=400, policy="constant", rate=rate, regularizers=[FixedNorm(radius)])
    found = []
    for _ in range(400):  # whatever the start has of the top direction
        x = optimizer.ask()
        found.append(x[0] @ basis)
        optimizer.tell(x, 0.5 * np.einsum("ni,ij,nj->n", x, q, x), x @ q)
    last = optimizer.ask()[0]
    assert abs(last @ basis[:, -1]) == pytest.approx(radius, rel=1e-5)
    assert 0.5 * last @ q @ last == pytest.approx(radius**2 * values[-1] / 2, rel=1e-7)
    second = np.abs(np.array(found)[:, -2] / np.array(found)[:, -1])
    expected = (1 + rate * values[-2]) / (1 + rate * values[-1])
    np.testing.assert_allclose(second[41:60] / second[40:59], expected, rtol=1e-6)


def test_energy_model_fills_its_plane_whatever_the_phase():
    plane = np.linalg.qr(weights(1, 24).reshape(12, 2))[0]
    for seed in range(3):
        optimizer = GradientAscent(FREE, seed, steps=100, policy="constant", rate=1.0, regularizers=[FixedNorm(2.0)])
        x, scores = climb(optimizer, lambda x: ((x @ plane) ** 2).sum(1), lambda x: 2 * x @ plane @ plane.T, 100)
        assert np.linalg.norm(x[0] @ plane) == pytest.approx(2.0, rel=1e-6)
        assert scores[-1, 0] == pytest.approx(4.0, rel=1e-6)


def test_dgn_am_with_a_linear_generator():
    a, w = weights(2, 60).reshape(5, 12), weights(4, 5)
    pull = a.T @ w
    optimizer = GradientAscent(FREE, 0, steps=200, policy="mean", rate=0.5, regularizers=[Clip(0.0, 3.0)])
    x, _ = climb(optimizer, *linear(pull), 200)
    np.testing.assert_array_equal(x[0], np.where(pull > 0, 3.0, 0.0))
    start = {"start": np.zeros(12), "unit": 1.0}
    shrunk = GradientAscent(FREE, 0, steps=3000, policy="mean", rate=8.0, regularizers=[Decay(0.01)], **start)
    x, _ = climb(shrunk, *linear(pull), 3000)
    np.testing.assert_allclose(x[0], 792 * pull / np.abs(pull).mean(), rtol=1e-6)


def test_a_falling_rate_travels_about_the_published_distance():
    """236.8 times the direction with a rate that would reach its end one step later, as published; 1% less here."""
    pull = weights()
    options = {"policy": "mean", "rate": 8.0, "last_rate": 1e-10, "regularizers": [Decay(0.01)]}
    optimizer = GradientAscent(FREE, steps=200, start=np.zeros(12), unit=1.0, **options)
    x, _ = climb(optimizer, *linear(pull), 200)
    np.testing.assert_allclose(x[0], 236.8 * pull / np.abs(pull).mean(), rtol=0.01)
    sizes = 8 * (1 - np.arange(200) / 199) * 0.99 ** (200 - np.arange(200))
    np.testing.assert_allclose(x[0], sizes.sum() * pull / np.abs(pull).mean(), rtol=1e-6)


def test_copies_do_not_know_of_each_other():
    hill = (lambda x: -(x**2).sum(1)), (lambda x: -2 * x)
    starts = np.random.default_rng(0).standard_normal((4, 12))
    together, _ = climb(GradientAscent(FREE, steps=9, start=starts), *hill, 9)
    for i in range(4):
        alone, _ = climb(GradientAscent(FREE, steps=9, start=starts[i]), *hill, 9)
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_code_without_a_usable_gradient_stays_and_the_others_go_on(bad):
    optimizer = GradientAscent(FREE, 0, steps=5, copies=2)
    before = optimizer.ask()
    optimizer.tell(before, np.zeros(2), np.stack([np.full(12, bad), np.ones(12)]))
    after = optimizer.ask()
    np.testing.assert_allclose(after[0], before[0], rtol=1e-12)
    assert (after[1] > before[1]).all()


def test_finished_codes_stay():
    optimizer = GradientAscent(FREE, 0, steps=2)
    assert not optimizer.finished
    climb(optimizer, *linear(weights()), 2)
    assert optimizer.finished
    assert optimizer.taken == 2
    before = optimizer.ask()
    climb(optimizer, *linear(weights()), 1)
    np.testing.assert_array_equal(optimizer.ask(), before)


def test_the_last_step_is_spared_regularizers():
    w = weights()
    for spare, share in ((True, 1.0), (False, 0.5)):
        options = {"policy": "constant", "rate": 1.0, "unit": 1.0, "regularizers": [Decay(0.5)], "spare_last": spare}
        x, _ = climb(GradientAscent(FREE, steps=1, start=np.zeros(12), **options), *linear(w), 1)
        np.testing.assert_allclose(x[0], share * w)


def test_a_smoothed_gradient_is_that_of_an_image():
    space = Space(3 * 64, low=0.0, high=1.0)
    optimizer = GradientAscent(space, steps=1, policy="constant", rate=1.0, smooth=(1.0, 1.0), unit=1.0, spread=0.0)
    spike = np.zeros((1, 3, 8, 8))
    spike[0, 1, 4, 4] = 0.1
    before = optimizer.ask()
    optimizer.tell(before, np.zeros(1), spike.reshape(1, -1))
    moved = (optimizer.ask() - before).reshape(3, 8, 8)
    assert moved[1, 4, 4] == pytest.approx(0.1 * 0.3989**2, rel=0.02)
    assert moved[1, 4, 5] == pytest.approx(moved[1, 4, 4] * np.exp(-0.5), rel=1e-6)
    assert not moved[[0, 2]].any()


def test_three_numbers_are_the_colour_of_an_image():
    optimizer = GradientAscent(Space(12, low=0.0, high=1.0), origin=(0.1, 0.2, 0.3), spread=0.0)
    np.testing.assert_allclose(optimizer.ask()[0], np.repeat([0.1, 0.2, 0.3], 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "adam"}, r"policy: expected 'constant' or .* got 'adam'"),
        ({"rate": 0}, "rate: expected a finite number above 0, got 0"),
        ({"last_rate": -1.0}, "last_rate: expected"),
        ({"max_rate": 0}, "max_rate: expected a number above 0"),
        ({"momentum": 1.0}, "momentum: expected a number from 0 to below 1, got 1.0"),
        ({"smooth": (1.0,)}, "smooth: expected two blurs"),
        ({"steps": 0}, "steps: expected a whole number of at least 1"),
        ({"copies": 0}, "copies: expected a whole number of at least 1"),
        ({"unit": 0}, "unit: expected a finite number above 0"),
        ({"spread": -1}, "spread: expected a finite number of at least 0"),
        ({"origin": (1.0, 2.0)}, r"origin: expected a code \(12,\) or three numbers"),
        ({"start": np.zeros(5)}, r"codes: expected shape \(n, 12\)"),
        ({"regularizers": [{"name": "blurr"}]}, "no regularizer 'blurr'. Did you mean 'blur'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        GradientAscent(FREE, **options)


@pytest.mark.parametrize("gradients", [None, np.zeros(12), np.zeros((2, 12))])
def test_gradients_of_another_shape_are_refused(gradients):
    optimizer = GradientAscent(FREE)
    with pytest.raises(InvalidArgumentError, match=r"gradients: expected shape \(1, 12\).*got"):
        optimizer.tell(optimizer.ask(), np.zeros(1), gradients)
