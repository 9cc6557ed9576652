from __future__ import annotations

import numpy as np
import pytest

from closedloop.interfaces import Space
from closedloop.optimizers import FDGD
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import trail


class TestFDGDContract(OptimizerContract):
    def make(self, space, seed):
        return FDGD(space, seed, radius=0.3, lr=0.5)  # the published radius is for thousands of dimensions


class TestOneSidedContract(OptimizerContract):
    def make(self, space, seed):
        return FDGD(space, seed, radius=0.3, lr=0.5, antithetic=False)


def test_the_published_settings():
    optimizer = FDGD(Space(4096, scale=2.0), 0)
    codes = optimizer.ask()
    assert codes.shape == (20, 4096)
    assert codes.std() == pytest.approx(2 * 1.25, rel=0.02)
    np.testing.assert_array_equal(codes[:10], -codes[10:])


def test_the_step_is_the_finite_difference_over_the_spread_of_the_scores():
    w = np.array([3.0, 1.0, -2.0])
    optimizer = FDGD(Space(3, scale=2.0), 0, radius=0.5, lr=0.7)
    codes = optimizer.ask()
    scores = 5 + codes @ w
    optimizer.tell(codes, scores)
    u = codes[:10] / (0.5 * 2)
    g = ((scores[:10] - scores[10:]) / 2 @ u) / 10 / scores.std()
    np.testing.assert_allclose(optimizer.state()["x"], 0.7 * 2 * g)


def test_finds_the_direction_of_a_linear_function():
    """Many samples: the step is along the gradient, with the length lr."""
    w = np.array([0.6, 0.0, -0.8, 0.0])
    optimizer = FDGD(Space(4), 0, population=20000, lr=1.25)
    trail(optimizer, lambda codes: (codes @ w, codes), 1)
    np.testing.assert_allclose(optimizer.state()["x"], 1.25 * w, atol=0.03)


def test_published_lengths_hold_on_the_published_generator():
    there, here = (FDGD(Space(64, scale=3.0, published=p)) for p in (1.0, None))
    assert there.radius == 1.25
    assert there.lr * 3.0 == 1.25
    assert here.radius == 3.75
    assert there.recipe["radius"] == 1.25 / 3
