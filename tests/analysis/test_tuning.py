"""Tuning, sparseness, signal correlation and time course: closed forms and other implementations."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from closedloop.analysis import psth, signal_correlation, sparseness, tuning_curve
from closedloop.errors import InvalidArgumentError, RecordingError


def test_tuning_curve_is_pandas(build, rng):
    values, ids = rng.random((40, 2)), rng.integers(0, 8, 40).astype(str)
    found = tuning_curve(build(values, stimulus_id=ids))
    table = pd.DataFrame(values).groupby(ids)
    np.testing.assert_allclose(found["mean"], table.mean())
    np.testing.assert_allclose(found["sem"], table.sem())
    np.testing.assert_array_equal(found["rank"], table.mean().rank(ascending=False))
    assert found["reason"].values.tolist() == ["", ""]


def test_tuning_curve_says_what_is_missing(build):
    found = tuning_curve(build([1.0, 2.0, np.nan], stimulus_id=np.array(list("aab"))))
    assert np.isnan([found["mean"].values[1], found["rank"].values[1]]).all()
    assert found["reason"].item() == "every presentation of some images was lost"
    once = tuning_curve(build([1.0, 2.0], stimulus_id=np.array(list("ab"))))
    assert np.isnan(once["sem"]).all()
    assert once["reason"].item() == "sem: some images were presented once"


def test_sparseness_of_known_responses(repeated):
    one_hot, flat = np.zeros(50), np.ones(50)
    one_hot[7] = 3
    half = np.repeat([0.0, 2.0], 25)
    found = sparseness(repeated(np.stack([one_hot, flat, half], axis=1)[:, None]))
    np.testing.assert_allclose(found["sparseness"], [1, 0, 0.5 / (1 - 1 / 50)], atol=1e-12)
    np.testing.assert_allclose(found["kurtosis"].values[[0, 2]], stats.kurtosis(np.stack([one_hot, half]), axis=1))
    assert np.isnan(found["kurtosis"].values[1])


def test_sparseness_of_exponential_rates(repeated, rng):
    found = sparseness(repeated(rng.exponential(size=(20000, 1, 1))))
    assert found["sparseness"].item() == pytest.approx(0.5, abs=0.02)  # a = E[r]² / E[r²] = 1 / 2


def test_population_sparseness_is_that_of_the_transposed_table(repeated, rng):
    table = rng.exponential(size=(12, 9))
    population = sparseness(repeated(table[:, None]), "units")
    lifetime = sparseness(repeated(table.T[:, None]))
    np.testing.assert_allclose(population["sparseness"].values, lifetime["sparseness"].values)
    assert population["stimulus_id"].values[3] == "image-003"


def test_sparseness_does_not_depend_on_scale_or_order(repeated):
    @settings(max_examples=20, derandomize=True)
    @given(st.lists(st.integers(-5, 30), min_size=2, max_size=12).filter(lambda x: max(x) > 0), st.floats(0.01, 1000))
    def check(values, scale):
        table = np.array(values, float)
        before = sparseness(repeated(table[:, None]))["sparseness"].item()
        after = sparseness(repeated(scale * table[::-1, None]))["sparseness"].item()
        assert -1e-9 <= before <= 1 + 1e-9
        assert after == pytest.approx(before)

    check()


def test_no_sparseness_of_a_silent_unit(repeated):
    found = sparseness(repeated(-np.ones((5, 2))))
    assert np.isnan(found["sparseness"].item())
    assert found["reason"].item() == "no response is above 0"
    assert sparseness(repeated(np.ones((1, 2))))["reason"].item() == "fewer than two values"
    with pytest.raises(InvalidArgumentError, match="over: expected 'stimuli' or 'units', got 'time'"):
        sparseness(repeated(np.ones((5, 2))), "time")


def test_signal_correlation_is_that_of_the_means(repeated, rng):
    table = rng.standard_normal((30, 3, 4)) + rng.standard_normal((30, 1, 4))
    found = signal_correlation(repeated(table))["correlation"]
    np.testing.assert_allclose(found, np.corrcoef(table.mean(1).T), atol=1e-12)
    np.testing.assert_array_equal(found, found.values.T)


def test_signal_correlation_with_lost_presentations(build, rng):
    values = rng.standard_normal((20, 2)) + np.array([1e5, 0])
    values[3, 0] = values[8, 1] = np.nan
    found = signal_correlation(build(values, stimulus_id=np.arange(20).astype(str)))["correlation"].values
    known = ~np.isnan(values).any(1)
    assert found[0, 1] == pytest.approx(np.corrcoef(values[known].T)[0, 1], abs=1e-6)


def test_signal_correlation_of_a_constant_unit(repeated, rng):
    table = np.concatenate([rng.random((9, 1, 1)), np.full((9, 1, 1), 4.0)], axis=2)
    found = signal_correlation(repeated(table))
    assert np.isnan(found["correlation"].values[:, 1]).all()
    assert found["reason"].values.tolist() == ["", "the response does not vary over images"]
    few = signal_correlation(repeated(rng.random((2, 1, 2))))
    assert few["reason"].values[0] == "fewer than three images"


def response(peak, bins=20):
    """A response that rises linearly to a peak and falls again."""
    return np.maximum(0, 10 - 2 * np.abs(np.arange(bins) - peak))[None, None]


def test_psth(build, rng):
    values = np.concatenate([response(8), 2 * response(8), response(11)]).astype(float)
    kind = np.array(["evolved", "evolved", "reference"])
    recording = build(values, kind=kind, stimulus_id=np.array(list("abc")))
    found = psth(recording)
    np.testing.assert_allclose(found["mean"].sel(kind="evolved").values[:, 0], 1.5 * response(8)[0, 0])
    np.testing.assert_allclose(found["sem"].sel(kind="evolved").values[8, 0], 5)
    assert found["peak_latency"].values.ravel().tolist() == [8, 11]
    assert found["onset_latency"].values.ravel().tolist() == [6, 9]  # half of the peak is reached 2.5 bins before it
    np.testing.assert_allclose(found["center_of_mass"].values.ravel(), [8, 11])
    assert found["unit_of_time"].item() == "bins"


def test_psth_in_ms(build):
    recording = build(response(8).astype(float), stimulus_id="a")
    start = 10 * np.arange(20)
    recording = recording.assign_coords(time_bin_start=("time_bin", start), time_bin_end=("time_bin", start + 10))
    found = psth(recording)
    assert found["peak_latency"].item() == 85
    assert found["unit_of_time"].item() == "ms"
    assert found["time_bin_end"].dims == ("time_bin",)


def test_psth_by_generation_and_what_it_needs(build, repeated):
    flat = build(np.ones((4, 1, 5)), generation=np.array([0, 0, 1, 1]), stimulus_id="a")
    found = psth(flat, by="generation")
    assert found["mean"].sizes == {"generation": 2, "time_bin": 5, "neuroid": 1}
    assert np.isnan(found["peak_latency"]).all()
    assert found["reason"].values[0, 0] == "the response does not change over time"
    lost = psth(build(np.full((2, 1, 5), np.nan)))
    assert lost["reason"].item() == "every presentation was lost"
    with pytest.raises(RecordingError, match="expected responses with a time axis"):
        psth(repeated(np.ones((2, 2))))
