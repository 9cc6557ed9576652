import numpy as np
import pytest
import xarray as xr
from scipy import stats

from closedloop.analysis import holm, hurting_layers, learning_peaks, peak_synchrony
from closedloop.errors import InvalidArgumentError


def layers(values):
    return xr.DataArray(values, dims=("step", "layer"), coords={"layer": [f"l{i}" for i in range(values.shape[1])]})


def test_a_peak_helps_more_than_all_steps_around():
    course = layers(-np.array([[1, 2, 1, 1, 3, 1, 0.5, 2]]).T)
    assert learning_peaks(course, 1).values[:, 0].tolist() == [0, 1, 0, 0, 1, 0, 0, 0]
    assert learning_peaks(course, 3).values[:, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert not learning_peaks(-course, 1).values.any()


def test_the_end_of_a_course_is_no_peak():
    """All layers help most in the last step that is known: that says nothing of what comes next."""
    course = layers(-np.arange(1.0, 7)[:, None] * np.array([[1, 2, 3]]))
    assert not learning_peaks(course).values.any()
    assert not learning_peaks(course[::-1]).values.any()
    with pytest.raises(InvalidArgumentError, match="at least two layers with peaks"):
        peak_synchrony(course)


def test_layers_that_learn_together_are_found():
    rng = np.random.default_rng(0)
    common = rng.standard_normal((200, 1))
    found = peak_synchrony(layers(-3 + common + 0.3 * rng.standard_normal((200, 5))))
    assert found.p < 0.01
    assert found.ratio > 2


def test_p_is_uniform_if_layers_learn_by_themselves():
    rng, found = np.random.default_rng(1), []
    for i in range(60):
        noise = rng.standard_normal((60, 3))
        noise[1:] += 0.6 * noise[:-1]  # each follows its own past
        found.append(float(peak_synchrony(layers(noise - 3), resamples=99, seed=i).p))
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_layers_without_peaks_are_named():
    with pytest.raises(InvalidArgumentError, match="at least two layers with peaks"):
        peak_synchrony(layers(np.ones((20, 3))))


def test_layers_that_hurt_over_seeds():
    rng = np.random.default_rng(0)
    means, runs = np.array([0.5, -0.5, 0.0]), []
    for _ in range(6):
        values = means / 10 + 0.01 * rng.standard_normal((10, 3))
        runs.append(xr.Dataset({"by_layer": layers(values)}))
    found = hurting_layers(runs)
    totals = np.stack([run.by_layer.sum("step").values for run in runs])
    expected = stats.ttest_1samp(totals, 0, alternative="greater")
    np.testing.assert_allclose(found.p, expected.pvalue)
    np.testing.assert_allclose(found.p_holm, holm(expected.pvalue))
    assert found.p_holm[0] < 0.001 < 0.05 < found.p_holm[1]
    assert (found.low < found["mean"]).all()
    with pytest.raises(InvalidArgumentError, match="at least two runs of one network, got 1"):
        hurting_layers(runs[:1])
