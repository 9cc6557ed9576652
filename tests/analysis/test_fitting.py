"""Fits with errors that hold in any noise, and the test of whether there is anything to fit."""

import numpy as np
import pytest

from closedloop.analysis.fitting import Grouped, derivatives, error_of, sandwich, search


def test_the_sandwich_is_right_in_noise_of_one_size_and_of_many():
    rng = np.random.default_rng(0)
    x = np.stack([np.ones(60), np.linspace(0, 1, 60)], 1)
    for size in (np.ones(60), 0.1 + 3 * x[:, 1] ** 2):
        slopes, errors = [], []
        for _ in range(400):
            y = x @ [1.0, 2.0] + size * rng.standard_normal(60)
            found = np.linalg.lstsq(x, y, rcond=None)[0]
            slopes.append(found[1])
            errors.append(sandwich(x, y - x @ found)[1, 1] ** 0.5)
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(slopes), rel=0.12)


def test_derivatives():
    at = np.array([0.3, 40.0])
    found = derivatives(lambda p: np.array([p[0] ** 2, np.sin(p[1]), p[0] * p[1]]), at)
    np.testing.assert_allclose(found, [[0.6, 0], [0, np.cos(40.0)], [40.0, 0.3]], atol=1e-6)


def test_levels_and_amplitudes_of_groups_are_found():
    group = np.repeat([0, 1], 20)
    shape = np.tile(np.linspace(0, 1, 20), 2)
    data = Grouped(np.where(group == 0, 1 + 2 * shape, 5 - 3 * shape), group)
    level, amplitude = data.linear(shape)
    np.testing.assert_allclose([level, amplitude], [[1, 5], [2, -3]])
    np.testing.assert_allclose(data.fitted(shape), data.y)


def test_a_search_finds_a_bump_and_says_how_sure_it_is():
    rng, x = np.random.default_rng(1), np.linspace(-3, 3, 80)

    def shape(p):
        return np.exp(-((x - p[0]) ** 2) / 2 / np.exp(2 * p[1]))

    truth, inside = np.array([0.7, -0.3]), []
    for _ in range(100):
        data = Grouped(2 + 5 * shape(truth) + 0.5 * rng.standard_normal(80), np.zeros(80, np.intp))
        found = search(data, shape, [np.array([0.0, 0.0])], (np.array([-3.0, -3.0]), np.array([3.0, 2.0])))
        inside.append(np.abs(found.parameters - truth) < 1.96 * np.sqrt(np.diag(found.covariance)))
        assert error_of(lambda p: p, found) == pytest.approx(np.sqrt(np.diag(found.covariance)))
    assert (np.mean(inside, 0) > 0.88).all()


def test_the_test_keeps_its_level_and_sees_a_tuning():
    rng = np.random.default_rng(2)
    group, x = np.repeat([0, 1], 30), np.tile(np.arange(30.0), 2)
    shapes = np.exp(-((x - np.arange(30.0)[:, None]) ** 2) / 8)
    null = [Grouped(rng.poisson(3, 60) + 10.0 * group, group).scan(shapes, i)[1] for i in range(200)]
    assert np.mean(np.array(null) < 0.1) == pytest.approx(0.1, abs=0.05)
    share, p = Grouped(rng.poisson(3 + 10 * shapes[12]) + 10.0 * group, group).scan(shapes, 0)
    assert p < 0.01
    assert abs(np.argmax(share) - 12) <= 2
