"""Noise and reliability: against scipy, statsmodels and simulations whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols

from closedloop.analysis import fano_factor, noise_ceiling, noise_correlation, selectivity, split_half
from closedloop.errors import InvalidArgumentError
from closedloop.testing.common import untouched_randomness

from .conftest import build

MEASURES = [fano_factor, split_half, noise_ceiling, selectivity]


def noisy(rng, stimuli=400, repeats=8, signal=1.0, noise=1.0, units=1):
    """Gaussian signal and noise of known standard deviation, ``(stimuli, repeats, units)``."""
    means = 10 + signal * rng.standard_normal((stimuli, 1, units))
    return means + noise * rng.standard_normal((stimuli, repeats, units))


def test_fano_factor_of_poisson_counts(repeated, rng):
    counts = rng.poisson(rng.uniform(2, 30, (300, 1, 2)), (300, 10, 2)).astype(float)
    found = fano_factor(repeated(counts))
    np.testing.assert_allclose(found["fano"], 1, atol=0.06)
    np.testing.assert_allclose(found["slope"], 1, atol=0.06)
    by_hand = (counts.var(1, ddof=1) / counts.mean(1)).mean(0)
    np.testing.assert_allclose(found["fano"], by_hand)
    assert found["n"].values.tolist() == [300, 300]
    assert found["neuroid_id"].values.tolist() == ["v4.0", "v4.1"]


def test_fano_factor_is_linear_in_the_scale(repeated, rng):
    counts = rng.poisson(9, (30, 6)).astype(float)
    one, three = (fano_factor(repeated(c))["fano"].item() for c in (counts, 3 * counts))
    assert three == pytest.approx(3 * one)


def test_fano_factor_needs_repeats_and_spikes(repeated):
    found = fano_factor(repeated(np.ones((4, 4))))
    said = found["reason"].item()
    assert said.startswith("no image of these was presented at least 5 times, but 4 at most; give repeats=4")
    silent = fano_factor(repeated(np.zeros((4, 6))))
    assert "no image with a mean response above 0" in silent["reason"].item()
    assert np.isnan(silent["fano"].item())
    with pytest.raises(InvalidArgumentError, match="repeats: expected a whole number of at least 2, got 1"):
        fano_factor(repeated(np.ones((4, 4))), repeats=1)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_noiseless_unit_is_nan_with_a_reason(repeated, rng, measure):
    found = measure(repeated(np.repeat(1 + rng.random((20, 1)), 6, axis=1)))
    first = next(iter(found.data_vars))
    assert np.isnan(found[first].values).all()
    assert found["reason"].values.tolist() == [
        "noiseless: the repeats of an image are identical, so there is no noise to measure"
    ]


@pytest.mark.parametrize("measure", [*MEASURES, noise_correlation])
def test_single_presentations_are_nan_with_a_reason(repeated, rng, measure):
    found = measure(repeated(rng.random((20, 1, 2))))
    first = next(iter(found.data_vars))
    assert np.isnan(found[first].values).all()
    assert all("presented at least" in reason for reason in found["reason"].values)


@pytest.mark.parametrize(("repeats", "noise"), [(8, 1.0), (2, 1.0), (6, 3.0), (3, 1.53), (5, 1.53)])
def test_reliability_of_known_signal_and_noise(repeated, rng, repeats, noise):
    recording = repeated(noisy(rng, 1000, repeats, noise=noise, units=8))
    truth = 1 / (1 + noise**2 / repeats)  # of the mean over all repeats
    assert split_half(recording, splits=5)["reliability"].mean().item() == pytest.approx(truth, abs=0.02)
    found = noise_ceiling(recording)
    assert found["explainable"].mean().item() == pytest.approx(truth, abs=0.02)
    assert found["ceiling"].mean().item() == pytest.approx(truth**0.5, abs=0.02)
    assert found["median"].item() == np.median(found["ceiling"])


def test_two_repeats_have_one_split(repeated, rng):
    table = noisy(rng, 50, 2)[..., 0]
    found = split_half(repeated(table), splits=200)
    expected = np.mean([np.corrcoef(rng.permuted(table, axis=1).T)[0, 1] for _ in range(500)])
    assert found["r"].item() == pytest.approx(expected, abs=0.01)
    assert found["reliability"].item() == pytest.approx(2 * found["r"].item() / (1 + found["r"].item()))


def test_no_signal_has_no_reliability(repeated, rng):
    recording = repeated(noisy(rng, 2000, 4, signal=0))
    assert abs(split_half(recording, splits=5)["r"].item()) < 0.06
    assert noise_ceiling(recording)["ceiling"].item() < 0.3


def test_splits_follow_the_seed(repeated, rng):
    recording = repeated(noisy(rng, 30, 5))
    with untouched_randomness():
        one, same, other = (split_half(recording, splits=3, seed=s)["r"].item() for s in (1, 1, 2))
    assert one == same != other
    assert split_half(recording, splits=3)["r_sd"].item() > 0


@pytest.mark.parametrize("measure", [split_half, noise_ceiling, selectivity])
def test_the_unit_of_the_response_does_not_matter(repeated, measure):
    @settings(max_examples=15, derandomize=True)
    @given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-50, 50))
    def check(seed, scale, shift):
        table = noisy(np.random.default_rng(seed), 10, 4)
        before, after = measure(repeated(table)), measure(repeated(scale * table + shift))
        for name in before.data_vars:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-6, atol=1e-9)

    check()


def unequal(build, rng, units=2):
    """Stimuli with 1 to 5 presentations, some of them lost."""
    ids = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    values = ids[:, None] ** 0.5 + rng.standard_normal((len(ids), units))
    values[rng.random(values.shape) < 0.1] = np.nan
    order = rng.permutation(len(ids))
    return build(values[order], stimulus_id=ids[order].astype(str)), ids[order], values[order]


def test_selectivity_is_scipys_and_statsmodels(build, rng):
    recording, ids, values = unequal(build, rng)
    found = selectivity(recording)
    several = np.isin(ids, [i for i in np.unique(ids) if (ids == i).sum() > 1])
    for unit in range(2):
        known = several & ~np.isnan(values[:, unit])
        groups = [values[known & (ids == i), unit] for i in np.unique(ids[known])]
        expected = stats.f_oneway(*groups)
        assert found["f"].values[unit] == pytest.approx(expected.statistic)
        assert found["p"].values[unit] == pytest.approx(expected.pvalue)
        table = pd.DataFrame({"y": values[known, unit], "image": ids[known]})
        anova = sm.stats.anova_lm(ols("y ~ C(image)", table).fit())
        between, within = anova["sum_sq"].to_numpy()
        assert found["eta_squared"].values[unit] == pytest.approx(between / (between + within))
        ms_within, df = within / anova["df"].iloc[1], anova["df"].iloc[0]
        omega = (between - df * ms_within) / (between + within + ms_within)
        assert found["omega_squared"].values[unit] == pytest.approx(omega)
        assert (found["df_between"].values[unit], found["df_within"].values[unit]) == tuple(anova["df"])


def test_omega_squared_is_unbiased_where_nothing_is_selective(repeated, rng):
    found = selectivity(repeated(rng.standard_normal((30, 4, 200))))
    assert abs(found["omega_squared"].mean().item()) < 0.02
    assert found["eta_squared"].mean().item() > 0.2
    assert 0.01 <= (found["p"] < 0.05).mean().item() <= 0.1


def test_noise_correlation_is_that_of_the_residuals(repeated, rng):
    shared = rng.standard_normal((400, 6, 1))
    noise = 0.7**0.5 * shared + 0.3**0.5 * rng.standard_normal((400, 6, 2))
    table = 5 * rng.standard_normal((400, 1, 3)) + np.concatenate([noise, rng.standard_normal((400, 6, 1))], axis=2)
    found = noise_correlation(repeated(table))["correlation"]
    z = (table - table.mean(1, keepdims=True)) / table.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(found, np.corrcoef(z.reshape(-1, 3).T), atol=1e-5)
    assert found.values[0, 1] == pytest.approx(0.7, abs=0.05)
    assert abs(found.values[0, 2]) < 0.08
    assert found["neuroid_id_b"].values.tolist() == found["neuroid_id"].values.tolist()


def test_noise_correlation_of_a_noiseless_unit(repeated, rng):
    table = np.concatenate([noisy(rng, 20, 4), np.repeat(rng.random((20, 1, 1)), 4, axis=1)], axis=2)
    found = noise_correlation(repeated(table))
    assert found["correlation"].values[0, 0] == 1
    assert np.isnan(found["correlation"].values[[0, 1, 1], [1, 0, 1]]).all()
    assert found["reason"].values[0] == ""
    assert found["reason"].values[1].startswith("noiseless")


def test_repeats_of_different_number_and_lost_ones(repeated, rng):
    """As many images with three repeats as with six, some of which are lost."""
    table = noisy(rng, 2000, 6, noise=1.5, units=4)
    table[::2, 3:] = np.nan
    table[rng.random(table.shape) < 0.05] = np.nan
    known = (~np.isnan(table)).sum(1)
    truth = 1 / (1 + 1.5**2 * (1 / known[(known > 1).all(1)]).mean())
    assert split_half(repeated(table), splits=5)["reliability"].mean().item() == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize("measure", [split_half, noise_ceiling, selectivity, fano_factor, noise_correlation])
def test_left_out_it_takes_references_that_were_not_selected(rng, measure):
    """Units without tuning: what was chosen for high responses differs from the rest by choice alone."""
    rates = rng.poisson(9, (60, 5, 20)).astype(float)
    survey = repeated_with(rates)
    best = np.argsort(-rates[..., 0].mean(1))[:5]
    again = repeated_with(rates[best] + 30, kind="retest", names=best)
    found, expected = (measure(part) for part in (xr.concat([survey, again], "presentation"), survey))
    xr.testing.assert_identical(found, expected)
    if measure is split_half:
        assert abs(found["reliability"].mean().item()) < 0.2


def repeated_with(table, kind="reference", names=None):
    stimuli, repeats, units = table.shape
    names = np.arange(stimuli) if names is None else names
    ids = np.repeat([f"image-{i:03d}" for i in names], repeats)
    return build(table.reshape(-1, units), stimulus_id=ids, kind=kind)
