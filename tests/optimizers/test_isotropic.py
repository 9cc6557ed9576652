from __future__ import annotations

import numpy as np
import pytest

from closedloop.interfaces import Space
from closedloop.optimizers import IsotropicES
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import answer, hill, slope, trail


class TestIsotropicContract(OptimizerContract):
    def make(self, space, seed):
        return IsotropicES(space, seed)


def test_population_of_the_field():
    assert len(IsotropicES(Space(4096)).ask()) == 40


def test_step_grows_on_a_slope_and_shrinks_at_the_top():
    climbing = IsotropicES(Space(20), 0)
    before = climbing.state()["sigma"]
    trail(climbing, slope, 30)
    assert climbing.state()["sigma"] > 3 * before
    settling = IsotropicES(Space(20), 0)
    trail(settling, hill(Space(20)), 200)
    assert settling.state()["sigma"] < 0.05 * before


def test_step_stays_about_the_same_on_noise():
    optimizer, rng = IsotropicES(Space(30), 0), np.random.default_rng(0)
    steps = []
    for _ in range(200):
        codes = optimizer.ask()
        optimizer.tell(codes, rng.standard_normal(len(codes)))
        steps.append(optimizer.state()["sigma"])
    assert 0.3 < np.exp(np.mean(np.log(steps))) < 3


def test_mean_moves_to_the_weighted_best():
    optimizer = IsotropicES(Space(3), 0, population=4)
    codes = optimizer.ask()
    optimizer.tell(codes, np.array([1.0, 4.0, 2.0, 3.0]))
    w = np.log(2.5) - np.log([1, 2])
    np.testing.assert_allclose(optimizer.state()["m"], (w[0] * codes[1] + w[1] * codes[3]) / w.sum())


def test_only_the_ranking_counts():
    space = Space(5)
    trails = [
        trail(IsotropicES(space, 0), lambda c, f=f: (f(hill(space)(c)[0]), c), 10)[-1] for f in (np.asarray, np.arctan)
    ]
    np.testing.assert_array_equal(*trails)


@pytest.mark.parametrize("population", [2, 3])
def test_tiny_populations(population):
    space = Space(3)
    optimizer = IsotropicES(space, 0, population=population)
    for _ in range(60):
        answer(optimizer, optimizer.ask(), hill(space))
    assert hill(space)(optimizer.ask())[0].max() > hill(space)(space.center[None])[0].max()
