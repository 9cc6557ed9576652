"""The surrogate of Auto: distances, slopes, and laws that are found where they are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from closedloop.optimizers.auto_surrogate import (
    LENGTHS,
    NOISES,
    WARPS,
    Laws,
    Surrogate,
    Warp,
    faded,
    improve_laws,
    log_evidence,
    similarity,
    squared_distances,
    steadied,
    warped_profile,
)

RNG = np.random.default_rng(0)


def shell(n, dim, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def settled(x, y, rounds=25, t=None):
    """The laws after as many judgements as an evolution has; expected scores are those of the laws before."""
    d, laws, t = squared_distances(x, x, np.ones(x.shape[1])), Laws(), np.zeros(len(y)) if t is None else t
    expected = np.full(len(y), y.mean())
    for _ in range(rounds):
        laws = improve_laws(d, y, expected, t, laws)
        warp = Warp(y, laws.warp)
        _, alpha, mean = log_evidence(d, warp(y), warped_profile(expected, laws.power, warp), laws, t)
        k = similarity(d, LENGTHS[laws.length]) * faded(np.abs(t[:, None] - t), laws.memory)
        expected = warp.back(mean + k @ alpha)
    return laws, expected


def test_squared_distances():
    a, b, w = RNG.normal(size=(4, 7)), RNG.normal(size=(5, 7)), RNG.random(7)
    expected = [[(w * (x - y) ** 2).sum() for y in b] for x in a]
    np.testing.assert_allclose(squared_distances(a, b, w), expected)
    assert (squared_distances(a, a, w) >= 0).all()


def test_the_slope_is_that_of_the_value():
    w, code, step = RNG.random(6), RNG.normal(size=6), 1e-6
    surrogate = Surrogate(RNG.normal(size=(9, 6)), RNG.normal(size=9), w, 1.4)
    value, slope = surrogate.value_and_slope(code)
    assert surrogate.at(code[None])[0] == pytest.approx(value)
    ends = surrogate.at(code + step * np.eye(6)) - surrogate.at(code - step * np.eye(6))
    np.testing.assert_allclose(slope / 1.4**2, ends / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_law_of_the_noise_is_found(power):
    """Responses from almost 0 to 6 tell a constant noise, spikes and a gain apart; the law's size is found as well."""
    rng = np.random.default_rng(power)
    x = shell(400, 6)
    f = 3 + 3 * x @ np.eye(6)[0]
    noise = {0: 1.0, 1: np.sqrt(f), 2: f}[power] * 0.4
    laws, expected = settled(x, f + noise * rng.standard_normal(400))
    assert laws.power == power
    assert np.corrcoef(expected, f)[0, 1] > 0.97


def test_no_noise_is_found():
    x = shell(300, 6)
    laws, expected = settled(x, np.exp(x @ np.ones(6)))
    assert NOISES[laws.noise] < 1e-3
    np.testing.assert_allclose(expected, np.exp(x @ np.ones(6)), rtol=0.15)


def test_pure_noise_is_called_noise():
    """What is expected of the very codes that were told varies less than their scores do."""
    laws, expected = settled(shell(300, 20), np.random.default_rng(5).standard_normal(300))
    assert NOISES[laws.noise] >= 1
    assert expected.std() < 0.75


def test_evidence_is_that_of_the_gaussian():
    """Up to the constant: differences between two laws, with mean and amplitude at their best values."""
    x, y = shell(12, 3), RNG.normal(size=12)
    d, r = squared_distances(x, x, np.ones(3)), np.ones(12)

    def direct(laws):
        c = (1 + d / LENGTHS[laws.length] ** 2) ** -0.5 + NOISES[laws.noise] * np.eye(12)
        inverse = np.linalg.inv(c)
        mean = inverse.sum(0) @ y / inverse.sum()
        amplitude = (y - mean) @ inverse @ (y - mean) / 12
        logs = 12 * np.log(amplitude) + np.linalg.slogdet(c)[1] + np.log(inverse.sum())
        return -logs / 2

    one, other = Laws(2, 6), Laws(5, 8)
    assert log_evidence(d, y, r, one)[0] - log_evidence(d, y, r, other)[0] == pytest.approx(direct(one) - direct(other))


def test_codes_too_close_for_so_little_noise_have_no_evidence():
    d = np.zeros((3, 3))
    d[0, 2] = d[2, 0] = 50.0  # no distances of any codes: the kernel is not positive
    evidence, alpha, _ = log_evidence(d, np.arange(3.0), np.ones(3), Laws(0, 0))
    assert evidence == -np.inf
    assert not alpha.any()


def test_neighbours_stay_within_what_is_considered():
    corner = Laws(0, len(NOISES) - 1, 1)
    near = corner.neighbours()
    assert replace(corner, length=1) in near
    assert replace(corner, warp=1) in near
    assert replace(corner, memory=1) in near
    assert len(near) == 6
    assert all(0 <= each.length < len(LENGTHS) and 0 <= each.noise < len(NOISES) for each in near)


def test_warping_is_undone_and_its_slope_is_that_of_the_warping():
    y = np.random.default_rng(0).lognormal(size=50)
    for index in range(len(WARPS)):
        warp = Warp(y, index)
        np.testing.assert_allclose(warp.back(warp(y)), y)
        assert warp(y).mean() == pytest.approx(0, abs=1e-12)
        assert warp(y).std() == pytest.approx(1)
        np.testing.assert_allclose(warp.slope(y), (warp(y + 1e-6) - warp(y - 1e-6)) / 2e-6, rtol=1e-6)
        assert np.isfinite(warp.back(np.array([1e6]))).all()


def test_expansive_responses_under_a_gain_are_bent_and_linear_ones_are_not():
    rng, x = np.random.default_rng(1), shell(300, 6)
    gain = np.maximum(0, 1 + 0.3 * rng.standard_normal(300))
    assert settled(x, np.exp(6 * x[:, 0]) * gain)[0].warp > 0
    assert settled(x, 3 + x[:, 0] + 0.2 * rng.standard_normal(300))[0].warp == 0


def test_a_preference_that_moves_on_shortens_the_memory_and_one_that_stays_does_not():
    rng, x, t = np.random.default_rng(2), shell(200, 6), np.arange(200.0)
    angle = np.pi * t / 200
    moving = 3 + np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1]
    assert settled(x, moving + 0.2 * rng.standard_normal(200), t=t)[0].memory > 0
    assert settled(x, 3 + x[:, 0] + 0.2 * rng.standard_normal(200), t=t)[0].memory == 0


def test_what_lies_far_from_what_was_expected_counts_for_less():
    away = np.abs(np.random.default_rng(3).standard_normal(500)) * 0.9
    away[0] = 30.0
    found = steadied(np.ones(500), away)
    assert found[0] == pytest.approx((30 / (3 * 1.4826 * np.median(away))) ** 2)
    assert (found[1:] == 1).mean() > 0.98
    np.testing.assert_array_equal(steadied(np.ones(3), np.array([0.0, 0.0, 9.0])), np.ones(3))
