"""SphereCMA: the contract, the geometry, and the published schedules."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import SphereCMA, load_optimizer
from closedloop.optimizers.base import log_weights
from closedloop.optimizers.sphere import slerp
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import answer, hill, trail


class TestSphereContract(OptimizerContract):
    def make(self, space, seed):
        return SphereCMA(space, seed, images=self.budget, population=16)


class TestInverseScheduleContract(OptimizerContract):
    def make(self, space, seed):
        return SphereCMA(
            space, seed, images=self.budget, population=16, schedule="inv", start=space.center + space.scale
        )


@pytest.mark.parametrize(
    ("schedule", "angles"),
    [("exp", {1: 48.7, 10: 38.6, 25: 26.1, 50: 13.7, 74: 7.33, 400: 7.33}), ("inv", {1: 76.4, 75: 22.0, 400: 22.0})],
)
def test_published_angles(schedule, angles):
    optimizer = SphereCMA(Space(4096), schedule=schedule)
    for k, degrees in angles.items():
        assert optimizer.angle_deg(k) == pytest.approx(degrees, abs=0.06)


def test_the_samples_have_the_angle_of_the_schedule():
    optimizer = SphereCMA(Space(1000), 0, images=2000)
    last = trail(optimizer, hill(optimizer.space), 30)[-1]
    degrees = np.degrees(np.arccos(np.clip(last[1:] @ last[0] / optimizer.radius**2, -1, 1)))
    assert degrees.mean() == pytest.approx(optimizer.angle_deg(29), rel=0.02)


@pytest.mark.parametrize("images", [100, 1000, 5000])
def test_the_schedule_ends_with_the_budget(images):
    optimizer = SphereCMA(Space(50), images=images)
    used = generation = 0
    while used + len(codes := optimizer.ask()) <= images:
        answer(optimizer, codes, hill(optimizer.space))
        used, generation = used + len(codes), generation + 1
    assert optimizer.angle_deg(generation - 1) == pytest.approx(7.33)
    assert optimizer.angle_deg(generation - 2) > 7.33
    assert images - used < 41


def test_codes_are_on_the_shell_of_the_prior_or_where_the_user_says():
    for options, radius in (({}, 3 * 80**0.5), ({"radius": 300.0}, 300.0)):
        for codes in trail(SphereCMA(Space(80, scale=3.0), 0, **options), hill(Space(80)), 4):
            np.testing.assert_allclose(np.linalg.norm(codes, axis=1), radius)
    bounded = Space(80, low=0.0, high=1.0, scale=12**-0.5)
    away = np.linalg.norm(SphereCMA(bounded, 0).ask() - bounded.center, axis=1)
    assert (away < (80 / 12) ** 0.5).all()  # where the bounds cut into the sphere
    assert (away > 0.8 * (80 / 12) ** 0.5).all()


def test_forty_random_codes_then_the_mean_and_forty_around_it():
    first, second, third = trail(SphereCMA(Space(300), 0), hill(Space(300)), 3)
    assert (len(first), len(second), len(third)) == (40, 41, 41)
    assert abs(np.corrcoef(first)[np.triu_indices(40, 1)]).max() < 0.3


def test_the_mean_goes_beyond_the_weighted_mean():
    """By `lr`, along the great circle; the score of the mean itself does not count."""
    optimizer = SphereCMA(Space(30), 0)
    trail(optimizer, hill(Space(30)), 2)
    codes = optimizer.ask()
    scores = hill(Space(30))(codes)[0]
    optimizer.tell(codes, np.concatenate([[1e9], scores[1:]]))
    mean = log_weights(40) @ codes[1:][np.argsort(-scores[1:])[:20]]
    x, before = optimizer.ask()[0], codes[0]
    cosines = [np.dot(before, v) / np.linalg.norm(before) / np.linalg.norm(v) for v in (x, mean)]
    assert np.arccos(cosines[0]) == pytest.approx(1.5 * np.arccos(cosines[1]))
    assert np.linalg.matrix_rank(np.stack([before, mean, x]), tol=1e-8) == 2


def test_climbs_a_direction_on_the_sphere():
    """The best code for a linear function is the radius times its direction."""
    space = Space(100, scale=2.0)
    w = np.random.default_rng(1).standard_normal(100)
    w /= np.linalg.norm(w)
    optimizer = SphereCMA(space, 0, images=3000)
    best = max(float((c @ w).max()) for c in trail(optimizer, lambda c: (c @ w, c), optimizer.generations))
    assert 0.98 < best / optimizer.radius <= 1


def test_turns_with_the_problem():
    """Same seed, same draws: what is reached depends on how the problem is turned only by chance, not by axes."""
    space, reached = Space(40), []
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((40, 40)))[0]
    for w in (np.eye(40)[0], turn[0]):
        runs = [trail(SphereCMA(space, s, images=800), lambda c, w=w: (c @ w, c), 18)[-1] @ w for s in range(5)]
        reached.append(np.mean(runs))
    assert reached[0] == pytest.approx(reached[1], rel=0.05)


def test_slerp():
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    np.testing.assert_allclose(slerp(a, b, 0.5), [0.5**0.5] * 2)
    np.testing.assert_allclose(slerp(a, b, 1.5), [-(0.5**0.5), 0.5**0.5])
    np.testing.assert_array_equal(slerp(a, a, 1.5), a)
    np.testing.assert_array_equal(slerp(a, -a, 1.5), -a)


def test_the_budget_comes_through_the_loader():
    assert load_optimizer("sphere-cma", Space(8), images=860).generations == 21
    assert load_optimizer("sphere-cma", Space(8)).generations == 75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "linear"}, "schedule: expected 'exp' or 'inv', got 'linear'"),
        ({"radius": -1.0}, "radius: expected a finite number above 0"),
        ({"images": 0}, "images: expected a whole number of at least 1, got 0"),
        ({"start": np.zeros(8)}, "start: expected a code away from the middle"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        SphereCMA(Space(8), **options)


def test_a_line_has_no_sphere():
    with pytest.raises(InvalidArgumentError, match="space: expected at least 2 dimensions"):
        SphereCMA(Space(1))
