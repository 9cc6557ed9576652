"""Cross-driving and reliability."""

import numpy as np
import pytest

from closedloop.analysis import cross_driving, noise_ceiling, split_half
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import plot_cross_driving, plot_reliability
from closedloop.figures.units import random_halves
from closedloop.readable import with_error


def test_each_cell_says_its_response(recording):
    ax = plot_cross_driving(recording)
    found = cross_driving(recording)
    words = [t.get_text() for t in ax.texts]
    for i in range(2):
        for j in range(2):
            mean, sem = float(found["response"][i, j]), float(found["sem"][i, j])
            assert words[2 * i + j] == with_error(mean, sem).replace(" ±", "\n±")
    shown = ax.images[0].get_array()
    assert np.allclose(np.diag(shown), 1)
    assert shown[0, 1] == pytest.approx(float(found["response"][0, 1] / found["response"][1, 1]))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["red", "dark"]
    assert "n = 4 (re-test)" in ax.get_title(loc="left")


def test_a_cell_without_a_response_is_a_dash(recording):
    deaf = recording.copy()
    deaf["responses"] = deaf.responses.where(deaf.thread != "dark")
    words = [t.get_text() for t in plot_cross_driving(deaf).texts]
    assert words[2:] == ["–", "–"]
    assert "–" not in words[:2]


def test_one_evolution_drives_nothing_across(recording):
    alone = recording.isel(evolution=[0])
    with pytest.raises(RecordingError, match="two evolutions or more"):
        plot_cross_driving(alone)


def test_reliability_says_what_the_analysis_says(recording):
    ax = plot_reliability(recording, unit=1, kind="reference")
    found = split_half(recording.isel(neuroid=[1]), kind="reference")
    words = ax.texts[0].get_text()
    assert f"r = {float(found['r'][0]):.2f}" in words
    assert f"repeats {float(found['reliability'][0]):.2f}" in words
    assert f"ceiling {float(noise_ceiling(recording, kind='reference')['ceiling'][1]):.2f}" in words
    halves = random_halves(recording.isel(neuroid=[1]), "reference", 0)
    assert np.allclose(ax.lines[0].get_xydata(), halves)
    assert np.corrcoef(halves.T)[0, 1] == pytest.approx(float(found["r"][0]), abs=4 * float(found["r_sd"][0]))


def test_halves_of_known_responses():
    """Two repeats each: a half is one of them, and together they are both."""
    import xarray as xr

    values = np.array([1.0, 2.0, 10.0, 20.0, 5.0, np.nan])
    names = np.array(["a", "a", "b", "b", "c", "c"])
    ds = xr.Dataset(
        {"responses": (("presentation", "neuroid"), values[:, None])}, {"stimulus_id": ("presentation", names)}
    )
    halves = random_halves(ds, None, 0)
    assert sorted(map(tuple, np.sort(halves, axis=1).tolist())) == [(1.0, 2.0), (10.0, 20.0)]


def test_a_noiseless_unit_has_no_reliability(recording):
    still = recording.copy()
    names = still.stimulus_id.values
    still["responses"] = still.responses.copy(data=np.array([[hash(n) % 97, 1.0] for n in names], dtype=float))
    with pytest.raises(RecordingError, match="noiseless"):
        plot_reliability(still, unit=0)


def test_no_such_unit(recording):
    with pytest.raises(InvalidArgumentError, match="unit: expected a column from 0 to 1, got 2"):
        plot_reliability(recording, unit=2)
