from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import HessianCMA
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import trail

AXES = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
VALUES = np.logspace(0, -3, 8)


class TestHessianContract(OptimizerContract):
    def make(self, space, seed):
        return HessianCMA(space, seed, eigenvalues=VALUES, axes=AXES)


def narrow(codes):
    """A hill with the given metric; its top is one unit of that metric away along each axis."""
    return -((codes @ AXES.T - VALUES**-0.5) ** 2 @ VALUES), codes


def test_makes_a_hill_of_that_metric_round():
    """With exponent 1/2 it needs no adaptation, where steps alike in all directions do."""
    space, options = Space(8, scale=10.0), {"eigenvalues": VALUES, "axes": AXES}
    reached = {
        exponent: narrow(trail(HessianCMA(space, 0, exponent=exponent, **options), narrow, 120)[-1])[0].max()
        for exponent in (0.0, 0.5)
    }
    assert reached[0.5] > -1e-6
    assert reached[0.0] < 1000 * reached[0.5]


def test_the_first_codes_are_wide_where_the_image_changes_little():
    optimizer = HessianCMA(Space(8, scale=2.0), 0, eigenvalues=VALUES, axes=AXES, exponent=0.25, population=4000)
    spread = (optimizer.ask() @ AXES.T).std(0)
    np.testing.assert_allclose(spread / spread[0], VALUES**-0.25, rtol=0.05)
    assert np.sqrt(np.mean(spread**2)) == pytest.approx(2, rel=0.02)


def test_fewer_axes_are_a_subspace():
    start = np.arange(8.0)
    optimizer = HessianCMA(Space(8), 0, eigenvalues=VALUES[:3], axes=AXES[:3], start=start)
    for codes in trail(optimizer, narrow, 5):
        np.testing.assert_allclose((codes - start) @ AXES[3:].T, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": AXES[:, :7]}, r"expected shapes \(k,\) and \(k, 8\), got \(8,\) and \(8, 7\)"),
        ({"eigenvalues": VALUES - VALUES[-1]}, "eigenvalues: expected finite numbers above 0, got 0 to"),
        ({"axes": 2 * AXES}, "axes: expected orthonormal rows"),
        ({"exponent": -1.0}, "exponent: expected a finite number of at least 0"),
        ({"sigma": 0}, "sigma: expected a finite number above 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        HessianCMA(Space(8), **{"eigenvalues": VALUES, "axes": AXES, **options})
