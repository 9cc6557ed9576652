"""Judged treatments, against numbers that are known."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from closedloop.analysis import judged_treatments, treatment_accuracy
from closedloop.analysis.treatments import verdict
from closedloop.errors import InvalidArgumentError
from tests.small_treatments import ARMS, SEEDS, accuracies, judgement


@pytest.fixture
def accuracy():
    return accuracies()


def test_means_intervals_and_gains(accuracy):
    found = judged_treatments(judgement(ARMS, SEEDS, accuracy))
    assert found["treatment"].values.tolist() == ARMS
    np.testing.assert_allclose(found["worst"].values, [0.34, 0.44, 0.66])
    np.testing.assert_allclose(found["overall"].sel(treatment="none"), (0.9 * 30 + 0.34 * 10) / 40)
    gain = np.array([0.3 + 0.01 * i for i in range(5)])
    low, high = stats.t.interval(0.95, 4, gain.mean(), stats.sem(gain))
    one = found.sel(treatment="cut")
    np.testing.assert_allclose([one["worst_gain"], one["worst_gain_low"], one["worst_gain_high"]], [0.32, low, high])
    np.testing.assert_allclose(one["worst_over_reweight"], 0.22)
    np.testing.assert_allclose(one["p"], stats.ttest_1samp(gain, 0).pvalue)
    assert np.isnan(found["p"].sel(treatment="none"))
    assert found["used"].values.tolist() == [0, 0, 1]
    assert found.attrs["seeds"] == 5
    np.testing.assert_allclose(found["worst_before"], 0.34)


def test_the_worst_group_may_be_another_one_with_each_seed(accuracy):
    accuracy[2][0] = [0.1, 0.9]
    found = judged_treatments(judgement(ARMS, SEEDS, accuracy))
    assert float(found["worst_by_seed"].sel(treatment="cut", seed=4)) == 0.1


def test_a_seed_that_is_not_done_does_not_count(accuracy):
    whole = judgement(ARMS, SEEDS, accuracy)
    part = whole.isel(presentation=slice(0, -1))
    found = judged_treatments(part)
    assert found["seed"].values.tolist() == SEEDS[:-1]
    two = judged_treatments(whole.isel(presentation=np.flatnonzero(np.isin(whole["run_seed"].values, [4, 5]))))
    assert np.isnan(two["worst_gain_low"]).all()
    assert two["worst_gain"].notnull().all()


def test_without_a_reference_nothing_is_gained(accuracy):
    found = judged_treatments(judgement(["cut"], SEEDS, accuracy[2:]))
    assert "worst_gain" not in found


def test_other_recordings_are_refused():
    for function, what in ((judged_treatments, "judge"), (treatment_accuracy, "treat")):
        with pytest.raises(InvalidArgumentError, match=f"recording: expected a run of {what}"):
            function(xr.Dataset())


def test_the_same_gain_with_every_seed_says_nothing_of_chance():
    same = [[[0.9, worst]] * 5 for worst in (0.3, 0.4, 0.3)]
    found = judged_treatments(judgement(ARMS, SEEDS, same))
    np.testing.assert_allclose(found["worst_gain"], [0, 0.1, 0], atol=1e-12)
    assert np.isnan([found[name] for name in ("worst_gain_low", "worst_gain_high", "p", "p_holm")]).all()


def test_no_accuracy_is_said_to_lie_below_none_or_above_all():
    worst = [0.0, 0.0, 0.0, 0.1, 0.0], [1.0, 1.0, 0.9, 1.0, 1.0], [0.5] * 5
    found = judged_treatments(judgement(ARMS, SEEDS, [[[1.0, w] for w in arm] for arm in worst]))
    assert float(found["worst_low"][0]) == 0
    assert float(found["worst_high"][1]) == 1
    assert float(found["worst_gain_high"][1]) <= 1


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "helps"), (-0.2, -0.1, "hurts"), (-0.1, 0.1, "no effect shown"), (np.nan, np.nan, "not known")],
)
def test_a_verdict(low, high, word):
    assert verdict(low, high) == word
