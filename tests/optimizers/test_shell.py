"""Codes in units of the prior's shell."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.interfaces import Space
from closedloop.optimizers.shell import Shell

CURVED, FLAT, BOUNDED = Space(25, scale=2.0), Space(4), Space(25, low=-1.0, high=3.0, scale=1.0)


@pytest.mark.parametrize("space", [CURVED, FLAT, BOUNDED])
def test_units_and_back(space):
    shell, codes = Shell(space), space.sample(3, np.random.default_rng(0))
    np.testing.assert_allclose(shell.codes(shell.units(codes)), codes, atol=1e-12)


def test_only_unbounded_spaces_of_many_dimensions_are_curved():
    assert [Shell(space).curved for space in (CURVED, FLAT, BOUNDED)] == [True, False, False]
    x = np.random.default_rng(0).standard_normal((5, 25))
    np.testing.assert_allclose(np.linalg.norm(Shell(CURVED).inside(x), axis=1), 1)
    assert np.linalg.norm(Shell(FLAT).inside(100 * x[:, :4]), axis=1) == pytest.approx(1 + 3 / np.sqrt(8))
    BOUNDED.check(Shell(BOUNDED).codes(Shell(BOUNDED).inside(100 * x)))


def test_moves_by_an_angle():
    shell, rng = Shell(CURVED), np.random.default_rng(0)
    x = shell.inside(rng.standard_normal((2, 25)))
    towards = shell.tangents(rng.standard_normal((2, 25)), x)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    moved = shell.moved(x, towards, np.radians([10.0, 40.0]))
    np.testing.assert_allclose(np.degrees(np.arccos((moved * x).sum(1))), [10, 40])
    np.testing.assert_allclose(shell.tangents(x[:1] + towards[:1], x[:1])[0], shell.tangent(x[0] + towards[0], x[0]))


def test_steps_where_there_is_no_shell():
    shell, x = Shell(FLAT), np.zeros((1, 4))
    np.testing.assert_allclose(shell.moved(x, np.eye(4)[:1], np.array([0.2])), [[0.2, 0, 0, 0]])
    np.testing.assert_array_equal(shell.tangents(np.ones((1, 4)), x), np.ones((1, 4)))
