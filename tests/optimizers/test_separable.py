"""Separable CMA-ES against an independent implementation of the same paper."""

from __future__ import annotations

import numpy as np
import pytest
from cmaes import SepCMA

from closedloop.interfaces import Space
from closedloop.optimizers import IsotropicES, SeparableCMA
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import hill, trail


class TestSeparableContract(OptimizerContract):
    def make(self, space, seed):
        return SeparableCMA(space, seed)


def axis_ellipsoid(codes):
    """A hill whose curvatures differ a thousandfold along the coordinates, with its top at 1."""
    return -(((codes - 1) ** 2) @ np.logspace(0, 3, codes.shape[1])), codes


def test_default_population():
    assert len(SeparableCMA(Space(4096)).ask()) == 28


@pytest.mark.parametrize(("dim", "population"), [(3, 6), (12, 11), (40, 30)])
def test_equals_the_peer(dim, population):
    """Both are told the same codes and scores."""
    optimizer = SeparableCMA(Space(dim), 4, population=population)
    peer = SepCMA(mean=np.zeros(dim), sigma=1.0, population_size=population)
    for _ in range(60):
        codes = optimizer.ask()
        scores = axis_ellipsoid(codes)[0]
        optimizer.tell(codes, scores)
        peer.tell([(code, -score) for code, score in zip(codes, scores, strict=True)])
        state = optimizer.state()
        np.testing.assert_allclose(state["m"], peer.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(state["sigma"], peer._sigma, rtol=1e-9)
        np.testing.assert_allclose(state["c"], peer._C, rtol=1e-9)


def test_learns_the_scale_of_each_coordinate():
    space, best = Space(10), {}
    for make in (SeparableCMA, IsotropicES):
        optimizer = make(space, 0, population=10)
        best[make] = axis_ellipsoid(trail(optimizer, axis_ellipsoid, 250)[-1])[0].max()
        if make is SeparableCMA:
            c = optimizer.state()["c"]
            assert np.polyfit(np.linspace(0, 3, 10), np.log10(c), 1)[0] == pytest.approx(-1, abs=0.3)
    assert best[SeparableCMA] > -1e-6
    assert best[IsotropicES] < 1000 * best[SeparableCMA]


def test_only_the_ranking_counts():
    space = Space(5)
    trails = [
        trail(SeparableCMA(space, 0), lambda c, f=f: (f(hill(space)(c)[0]), c), 10)[-1] for f in (np.asarray, np.arctan)
    ]
    np.testing.assert_array_equal(*trails)
