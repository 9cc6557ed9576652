"""Which pulse belongs to which image: against scripts that know it."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.rigs.onsets import match_onsets


def flips(n=40, soa_s=0.2, jitter_s=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return 7.0 + soa_s * np.arange(n) + np.cumsum(jitter_s * rng.random(n))


def pulses_of(at, offset_s=123.4, drift=2e-5, noise_s=0.001, seed=1):
    return offset_s + at * (1 + drift) + noise_s * np.random.default_rng(seed).standard_normal(len(at))


def test_all_there():
    at = flips()
    pulses = pulses_of(at)
    found = match_onsets(at, pulses, 0.025)
    np.testing.assert_array_equal(found.pulse, np.arange(40))
    np.testing.assert_array_equal(found.onset_s, pulses)
    assert (found.missing, found.extra, found.certain) == (0, 0, True)
    assert found.offset_s == pytest.approx(123.4, abs=0.003)


@pytest.mark.parametrize("seed", range(10))
def test_missing_and_extra_ones_are_resolved_by_time(seed):
    rng = np.random.default_rng(seed)
    at = flips(seed=seed)
    true = pulses_of(at, seed=seed)
    there = rng.random(40) > 0.2
    extra = rng.uniform(true[0] - 1, true[-1] + 1, 6)
    extra = extra[np.abs(extra[:, None] - true[None]).min(1) > 0.03]
    pulses = np.sort(np.concatenate([true[there], extra]))
    found = match_onsets(at, pulses, 0.025)
    assert found.certain
    np.testing.assert_array_equal(found.pulse >= 0, there)
    np.testing.assert_array_equal(pulses[found.pulse[there]], true[there])
    assert found.extra == len(extra)
    np.testing.assert_allclose(found.onset_s[~there], true[~there], atol=0.004)


def test_regular_ones_without_a_clock_are_not_guessed():
    at = flips(jitter_s=0.0)
    pulses = pulses_of(at, noise_s=0.0)
    assert match_onsets(at, pulses, 0.025).certain  # one assignment has them all
    assert match_onsets(at, np.delete(pulses, 17), 0.025).certain  # and one has all but the hole
    for there in (pulses[1:], pulses[:-1]):
        found = match_onsets(at, there, 0.025)
        assert not found.certain
        assert np.isnan(found.onset_s).all()
        assert (found.pulse == -1).all()


@pytest.mark.parametrize("error_s", [-0.08, 0.0, 0.08])
def test_a_rough_clock_decides_between_regular_ones(error_s):
    at = flips(jitter_s=0.0)
    true = pulses_of(at, noise_s=0.0)
    for there in (np.arange(1, 40), np.arange(39), np.arange(5, 30)):
        found = match_onsets(at, true[there], 0.025, 123.4 + error_s, 0.1)
        assert found.certain
        np.testing.assert_array_equal(np.flatnonzero(found.pulse >= 0), there)
        np.testing.assert_allclose(found.onset_s, true, atol=0.002)


def test_the_offset_is_followed_where_frames_drop():
    at = 7.0 + 0.2 * np.arange(60)  # nominal times; each tenth image came a frame later than the one before
    true = 50.0 + at + 0.0167 * (np.arange(60) // 10)
    found = match_onsets(at, true, 0.025, 57.0 - 7.0, 0.1)
    np.testing.assert_array_equal(found.pulse, np.arange(60))
    found = match_onsets(at, true[np.arange(60) % 7 != 0], 0.025, 57.0 - 7.0, 0.1)
    np.testing.assert_allclose(found.onset_s, true, atol=0.017)


def test_nothing_there():
    found = match_onsets(flips(), np.zeros(0), 0.025)
    assert (found.missing, found.extra, found.offset_s, found.certain) == (40, 0, None, True)
    found = match_onsets(np.zeros(0), pulses_of(flips()), 0.025)
    assert (found.missing, found.extra) == (0, 40)
    far = match_onsets(flips(), pulses_of(flips()), 0.025, 500.0, 0.1)
    assert (far.missing, far.extra) == (40, 40)
