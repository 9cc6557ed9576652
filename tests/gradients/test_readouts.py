"""Readouts of features through a generator: values and slopes."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import SubjectError
from closedloop.interfaces import Space
from tests.small_sights import Levels, Stripes

torch = pytest.importorskip("torch")
from closedloop.gradients.readouts import ReadoutPath  # noqa: E402


def test_slopes_are_those_of_finite_differences():
    space, rng = Space(6), np.random.default_rng(0)
    path, codes = ReadoutPath(Stripes(space), Levels(6)), 0.5 * rng.standard_normal((3, 6))
    weights = rng.standard_normal((3, 12)).astype(np.float32)
    values, slopes = path.slopes(codes, weights)
    level = codes / 8 + 0.5
    features = np.concatenate([level, (level - 0.5) ** 2], 1)
    np.testing.assert_allclose(values, (features * weights).sum(1), rtol=1e-5)
    for j in range(6):
        step = np.where(np.arange(6) == j, 1e-2, 0)
        up, down = (path.slopes(codes + sign * step, weights)[0] for sign in (1, -1))
        np.testing.assert_allclose(slopes[:, j], (up - down) / 2e-2, atol=1e-4)


def test_a_feature_network_that_fails_is_named():
    class Broken(Levels):
        def forward(self, x):
            raise RuntimeError("no forward today")

    path = ReadoutPath(Stripes(Space(6)), Broken(6))
    with pytest.raises(SubjectError, match=r"features 'levels', forward\(\) raised .*no forward today"):
        path.slopes(np.zeros((1, 6)), np.zeros((1, 12), np.float32))
