from __future__ import annotations

import numpy as np

from closedloop.interfaces import Space
from closedloop.optimizers import RandomSearch
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import hill, slope, trail


class TestRandomSearchContract(OptimizerContract):
    learns, control = False, True

    def make(self, space, seed):
        return RandomSearch(space, seed, population=12)


def test_draws_from_the_prior_whatever_the_scores():
    space = Space(5, scale=3.0)
    one, other = (np.concatenate(trail(RandomSearch(space, 0), f, 50)) for f in (hill(space), slope))
    np.testing.assert_array_equal(one, other)
    assert abs(one.mean()) < 0.1
    assert abs(one.std() - 3) < 0.1
