"""CMA-ES: the contract, and the saved state where pycma keeps more than meets the eye."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers.base import log_weights
from closedloop.optimizers.cmaes import CMAES, diagonal_cmaes
from closedloop.testing import OptimizerContract
from closedloop.testing.common import through_a_file
from closedloop.testing.optimizers import answer, assert_same, hill, trail


class TestFullContract(OptimizerContract):
    def make(self, space, seed):
        return CMAES(space, seed)


class TestDiagonalContract(OptimizerContract):
    def make(self, space, seed):
        return diagonal_cmaes(space, seed)


def rotated_ellipsoid(condition):
    """A hill whose curvatures differ by the square of `condition`, along axes that are no coordinates."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    curvature = np.logspace(0, 2 * np.log10(condition), 4)
    return lambda codes: (-np.sqrt(((codes @ axes - 5) ** 2 * curvature).sum(1)), codes)


def test_restored_in_many_dimensions():
    """Above 300 dimensions pycma adapts its step by mirrored samples; large matrices feel their memory order."""
    for space in (Space(320, scale=2.0), Space(320, low=0.0, high=1.0, scale=12**-0.5)):
        for make in (CMAES, diagonal_cmaes):
            optimizer, landscape = make(space, 3), hill(space)
            trail(optimizer, landscape, 4)
            after_tell = through_a_file(optimizer.state())
            codes = optimizer.ask()
            pending = through_a_file(optimizer.state())
            answer(optimizer, codes, landscape)
            expected = trail(optimizer, landscape, 3)
            for again in (make(space, 3), optimizer):
                again.restore(after_tell)
                assert_same(trail(again, landscape, 4), [codes, *expected])
                again.restore(pending)
                answer(again, codes, landscape)
                assert_same(trail(again, landscape, 3), expected)


def test_restored_to_its_beginning_in_many_dimensions():
    space = Space(320, scale=2.0)
    optimizer, landscape = CMAES(space, 3, covariance="diagonal"), hill(space)
    state = through_a_file(optimizer.state())
    expected = trail(optimizer, landscape, 5)
    optimizer.restore(state)
    assert_same(trail(optimizer, landscape, 5), expected)


def test_restored_after_the_covariance_has_become_a_linear_map():
    landscape, space = rotated_ellipsoid(1e7), Space(4)
    optimizer = CMAES(space, 3)
    for _ in range(8):
        trail(optimizer, landscape, 25)
        state = through_a_file(optimizer.state())
        again = CMAES(space, 3)
        again.restore(state)
        assert_same(trail(again, landscape, 4), trail(optimizer, landscape, 4))
    assert state["transform"], "the hill was not narrow enough to test what it should"


def test_adapts_to_a_rotated_hill():
    """Only the full covariance learns axes that are no coordinates."""
    landscape, best = rotated_ellipsoid(1e3), {}
    for covariance in ("full", "diagonal"):
        codes = trail(CMAES(Space(4), 0, covariance=covariance), landscape, 150)[-1]
        best[covariance] = landscape(codes)[0].max()
    assert best["full"] > -1e-3
    assert best["diagonal"] < 100 * best["full"]


def test_covariance_is_chosen_by_the_dimension():
    assert CMAES(Space(8)).name == "cma"
    assert CMAES(Space(1025)).name == "cma-diagonal"
    assert CMAES(Space(8), covariance="diagonal").name == "cma-diagonal"
    with pytest.raises(InvalidArgumentError, match="covariance: expected 'auto', 'full' or 'diagonal', got 'sparse'"):
        CMAES(Space(8), covariance="sparse")
    with pytest.raises(InvalidArgumentError, match="expected 'diagonal' for cma-diagonal, got 'full'"):
        diagonal_cmaes(Space(8), covariance="full")


def test_a_lost_code_moves_nothing():
    """It stands in the middle of the ranking as the mean itself; the best code keeps its weight."""
    optimizer = CMAES(Space(6), 0, population=4)
    codes = optimizer.ask()
    optimizer.tell(codes, np.array([np.nan, 3.0, 1.0, 2.0]))
    mean = optimizer.state()["strategy"]["mean"]
    coefficients, residual, *_ = np.linalg.lstsq(codes[1:].T, mean, rcond=None)
    assert residual == pytest.approx(0, abs=1e-12)
    assert coefficients == pytest.approx([log_weights(4)[0], 0, 0], abs=1e-6)


def test_a_lost_generation_changes_nothing_but_the_draws():
    optimizer = CMAES(Space(6), 0)
    trail(optimizer, hill(Space(6)), 3)
    before = optimizer.state()
    codes = optimizer.ask()
    optimizer.tell(codes, np.full(len(codes), np.nan))
    after = optimizer.state()
    np.testing.assert_array_equal(after["strategy"]["mean"], before["strategy"]["mean"])
    assert after["strategy"]["sigma"] == before["strategy"]["sigma"]
    assert not np.array_equal(optimizer.ask(), codes)
