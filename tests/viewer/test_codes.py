"""Codes: a draw, moved along directions, on a walk, between two draws."""

import numpy as np
import pytest

from closedloop.generators import Fourier, Pixels
from closedloop.viewer.codes import STEPS, Codes, arc


@pytest.fixture(scope="module")
def codes():
    return Codes(Pixels(8))


def test_the_same_numbers_give_the_same_code(codes):
    np.testing.assert_array_equal(codes.code([], 3), codes.code([0.0], 3))
    assert not np.allclose(codes.code([], 3), codes.code([], 4))


def test_a_morph_begins_and_ends_at_the_draws(codes):
    np.testing.assert_allclose(codes.code([], 0, (1, 2, 0.0)), codes.code([], 1))
    np.testing.assert_allclose(codes.code([], 0, (1, 2, 1.0)), codes.code([], 2))


def test_a_walk_is_continuous(codes):
    steps = np.concatenate([codes.code([], 5, None, step) for step in np.arange(0, 2 * STEPS, 0.5)])
    far = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    assert far.max() < 0.1 * np.linalg.norm(steps[0] - steps[-1]) + 0.5 * far.mean() + far.mean()
    np.testing.assert_array_equal(steps[0], codes.code([], 5)[0])


def test_an_arc_keeps_the_length():
    a, b = np.eye(5)[:2] * [[2.0], [4.0]]
    assert np.linalg.norm(arc(a, b, 0.5)) == pytest.approx(3)
    np.testing.assert_allclose(arc(a, np.zeros(5), 0.5), a / 2)
    np.testing.assert_allclose(arc(a, 2 * a, 0.5), 1.5 * a)


def test_directions_are_those_that_change_an_image_most():
    found = Codes(Fourier(16, 2)).directions
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-6)
