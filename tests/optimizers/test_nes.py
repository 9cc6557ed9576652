from __future__ import annotations

import numpy as np
import pytest

from closedloop.interfaces import Space
from closedloop.optimizers import NES
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import trail


class TestNESContract(OptimizerContract):
    def make(self, space, seed):
        return NES(space, seed, radius=0.5, radius_lr=0.5)  # the published radius is for thousands of dimensions


def test_the_published_settings():
    codes = NES(Space(4096, scale=2.0), 0).ask()
    assert codes.shape == (20, 4096)
    assert codes.std() == pytest.approx(2 * 1.25, rel=0.02)


def test_the_step_is_the_natural_gradient():
    """Many samples of a linear function: ∇μ = σ w / (σ ‖w‖), and σ has no reason to change."""
    w = np.array([0.6, 0.0, -0.8, 0.0])
    optimizer = NES(Space(4), 0, population=20000)
    trail(optimizer, lambda codes: (codes @ w, codes), 1)
    np.testing.assert_allclose(optimizer.state()["mu"], 1.75 * 1.25 * w, atol=0.08)  # 4 of 1.75 · 1.25 / √20000
    assert optimizer.state()["sigma"] == pytest.approx(1.25, rel=5e-3)  # 1 / √(2 · 20000) is 0.5 %


@pytest.mark.parametrize(("curvature", "grows"), [(-1.0, False), (1.0, True)])
def test_the_radius_shrinks_on_a_top_and_grows_in_a_valley(curvature, grows):
    optimizer = NES(Space(6), 0, radius_lr=0.5)
    trail(optimizer, lambda codes: (curvature * (codes**2).sum(1), codes), 10)
    assert (optimizer.state()["sigma"] > 1.25) is grows


def test_the_radius_follows_its_equation():
    optimizer = NES(Space(3), 0, radius_lr=0.2)
    codes = optimizer.ask()
    scores = -(codes**2).sum(1)
    optimizer.tell(codes, scores)
    s = (scores - scores.mean()) / scores.std()
    growth = np.mean(s * ((codes / 1.25) ** 2).sum(1) / 3)
    assert optimizer.state()["sigma"] == pytest.approx(1.25 * np.exp(0.1 * growth))


def test_the_published_radius_holds_on_the_published_generator():
    there, here = (NES(Space(64, scale=3.0, published=p)).state()["sigma"] for p in (1.0, None))
    assert (there, here) == (1.25, 3.75)
