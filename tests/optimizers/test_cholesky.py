"""Cholesky-CMA-ES against the published update with dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import CholeskyCMAES
from closedloop.seeds import part_generator
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import hill, trail


class TestCholeskyContract(OptimizerContract):
    def make(self, space, seed):
        return CholeskyCMAES(space, seed)


class DenseCholesky:
    """The reference: the same equations with A and its numerical inverse as whole matrices, from standard normal z."""

    def __init__(self, n, population, sigma, c1, every):
        self.n, self.lam, self.sigma, self.c1, self.every = n, population, sigma, c1, every
        self.m, self.ps, self.pc, self.A, self.k = np.zeros(n), np.zeros(n), np.zeros(n), np.eye(n), 0
        mu = population / 2
        self.w = np.log(mu + 0.5) - np.log(np.arange(1, int(mu) + 1))
        self.w /= self.w.sum()
        self.mueff = 1 / (self.w**2).sum()
        self.cc, self.cs = 4 / (n + 4), np.sqrt(self.mueff) / (np.sqrt(self.mueff) + np.sqrt(n))
        self.damps = 1 + self.cs + 2 * max(0, np.sqrt((self.mueff - 1) / (n + 1)) - 1)

    def generation(self, z, landscape):
        x = self.m + self.sigma * z @ self.A
        best = np.argsort(-landscape(x)[0])[: len(self.w)]
        self.m = self.w @ x[best]
        zw = self.w @ z[best]
        self.ps = (1 - self.cs) * self.ps + np.sqrt(self.cs * (2 - self.cs) * self.mueff) * zw
        self.pc = (1 - self.cc) * self.pc + np.sqrt(self.cc * (2 - self.cc) * self.mueff) * zw @ self.A
        chi = np.sqrt(self.n) * (1 - 1 / (4 * self.n) + 1 / (21 * self.n**2))
        self.sigma *= np.exp(self.cs / self.damps * (np.linalg.norm(self.ps) / chi - 1))
        self.k += 1
        if self.k % self.every == 0:
            v = self.pc @ np.linalg.inv(self.A)
            root = np.sqrt(1 + self.c1 * (v @ v) / (1 - self.c1)) - 1
            self.A = np.sqrt(1 - self.c1) * (self.A + root / (v @ v) * np.outer(v, self.pc))
        return x


def test_the_published_settings():
    optimizer = CholeskyCMAES(Space(4096, scale=300 / 64))
    assert len(optimizer.ask()) == optimizer.population == 40
    assert optimizer.state()["sigma"] == pytest.approx(3.0)
    assert optimizer.every == 10
    assert CholeskyCMAES(Space(256)).population == 28


@pytest.mark.parametrize("every", [10, 1])
def test_equals_the_dense_update(every):
    """Also after more updates than there are dimensions, when the factors are merged."""
    n, landscape = 6, hill(Space(6, scale=3.0))
    optimizer = CholeskyCMAES(Space(n), 5, population=8, sigma=1.0, every=every)
    dense = DenseCholesky(n, 8, 1.0, 2 / (n + np.sqrt(2)) ** 2, every)
    rng = part_generator(5, "optimizer CholeskyCMAES")
    for codes in trail(optimizer, landscape, 40):
        np.testing.assert_allclose(codes, dense.generation(rng.standard_normal((8, n)), landscape), atol=1e-8)
    state = optimizer.state()
    assert state["sigma"] == pytest.approx(dense.sigma)
    np.testing.assert_allclose(state["a"] * (np.eye(n) + state["u"] @ state["v"]), dense.A, atol=1e-9)
    inverse = (np.eye(n) + state["inverse_u"] @ state["inverse_v"]) / state["a"]
    np.testing.assert_allclose(inverse @ dense.A, np.eye(n), atol=1e-8)
    assert state["u"].shape[1] == min(n, 40 // every)


def test_keeps_a_direction_for_each_update():
    optimizer = CholeskyCMAES(Space(500), 0)
    trail(optimizer, hill(Space(500)), 31)
    assert optimizer.state()["u"].shape == (500, 3)
    assert sum(v.nbytes for v in optimizer.state().values() if isinstance(v, np.ndarray)) < 50 * 8 * 500


def test_bad_options():
    with pytest.raises(InvalidArgumentError, match="every: expected a whole number of at least 1, got 0"):
        CholeskyCMAES(Space(4), every=0)


def test_the_published_step_holds_on_the_published_generator():
    there, here = (CholeskyCMAES(Space(64, scale=3.0, published=p)).state()["sigma"] for p in (1.0, None))
    assert there == 3.0
    assert here == pytest.approx(0.64 * 3)
