"""Coordinates of codes: there and back, angles, lengths, bounds."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.interfaces import Space
from closedloop.optimizers.auto_coordinates import FARTHEST, Coordinates

SPACES = [Space(24, scale=3.0), Space(24, low=0.0, high=1.0, scale=12**-0.5), Space(6)]


@pytest.mark.parametrize("space", SPACES)
def test_there_and_back(space):
    codes = space.sample(5, np.random.default_rng(0)) * 0.9 + space.center * 0.1
    coordinates = Coordinates(space, None)
    x = coordinates.of(codes)
    assert x.shape == (5, coordinates.size)
    np.testing.assert_allclose(coordinates.codes(x), codes)


def test_a_length_is_one_more_coordinate_unless_it_is_fixed():
    space = Space(24, scale=3.0)
    free, fixed = Coordinates(space, None), Coordinates(space, 10.0)
    codes = space.sample(5, np.random.default_rng(0))
    assert (free.size, fixed.size) == (25, 24)
    np.testing.assert_allclose(
        free.of(2 * codes) - free.of(codes), np.tile([*np.zeros(24), np.log(2)], (5, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.norm(fixed.codes(fixed.of(codes)), axis=1), 10)


def test_around_a_mean():
    coordinates, rng = Coordinates(Space(24), None), np.random.default_rng(0)
    m = coordinates.of(rng.standard_normal((1, 24)))[0]
    x = coordinates.around(m, rng.standard_normal((200, 25)), 0.5)
    np.testing.assert_allclose(np.linalg.norm(x[:, :24], axis=1), 1)
    np.testing.assert_allclose(x[:, :24] @ m[:24], np.cos(0.5))
    assert (x[:, 24] - m[24]).std() == pytest.approx(0.1, rel=0.2)


def test_slopes_are_along_the_shell_and_the_length_is_free():
    coordinates = Coordinates(Space(24), None)
    m, slope = np.eye(25)[0] + 0.7 * np.eye(25)[24], np.arange(25.0) + 1
    found = coordinates.tangent(slope, m)
    np.testing.assert_array_equal(found, [0, *slope[1:]])


def test_no_code_is_too_long_or_of_no_length():
    coordinates = Coordinates(Space(24), None)
    x = coordinates.of(np.stack([np.full(24, 1e9), np.zeros(24)]))
    np.testing.assert_allclose(x[:, 24], [FARTHEST, -FARTHEST])
    assert np.isfinite(coordinates.codes(x)).all()
