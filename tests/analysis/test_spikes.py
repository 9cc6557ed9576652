"""Spikes counted again in other windows."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import yaml

from closedloop import analysis, open_recording
from closedloop.analysis.spikes import counting_window
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures.style import score_name
from closedloop.presentations import Answers, Spikes
from closedloop.protocols import present
from closedloop.subjects import RigSubject
from tests.loop.test_answers import photographs
from tests.small_rig import SIDE, SmallRig


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spikes") / "run"
    present(SmallRig(lost=0.2), photographs(8), resolution=SIDE, repeats=6, save=folder, progress=False)
    return open_recording(folder)


def test_windows_add_up_to_a_wider_one(ds):
    parts = sum(analysis.counts(ds, (a, a + 0.1)) for a in (-0.1, 0.0, 0.1, 0.2))
    np.testing.assert_array_equal(parts, analysis.counts(ds, (-0.1, 0.3)))
    ok = (ds.status == "ok").values
    assert analysis.counts(ds, (-0.1, 0.31)).values[ok].sum() == ds.spike_count.values[ok].sum()
    np.testing.assert_array_equal(np.isnan(analysis.counts(ds, (0, 0.1))).all("neuroid"), ~ok)


def test_a_selection_keeps_its_own_spikes(ds):
    rows = np.array([7, 3, 20])
    whole, part = analysis.counts(ds, (0, 0.2)), analysis.counts(ds.isel(presentation=rows, neuroid=[2, 0]), (0, 0.2))
    np.testing.assert_array_equal(part, whole.isel(presentation=rows, neuroid=[2, 0]))
    assert part.neuroid_id.values.tolist() == ["u2", "u0"]


def test_bins(ds):
    binned = analysis.counts(ds, bins_s=(0, 0.02, 10))
    assert binned.dims == ("presentation", "neuroid", "time_bin")
    np.testing.assert_allclose(binned.time_bin_start, np.arange(10) * 20)
    np.testing.assert_array_equal(binned.sum("time_bin", skipna=False), analysis.counts(ds, (0, 0.2)))


def test_psth_of_spikes_is_a_rate(ds):
    found = analysis.psth(ds, bins_s=(-0.1, 0.05, 8))
    expected = analysis.counts(ds, bins_s=(-0.1, 0.05, 8)).mean("presentation") / 0.05
    np.testing.assert_allclose(found["mean"].values[0], expected.values.T)
    assert found.unit_of_time == "ms"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of them"),
        ({"window_s": (0, 1), "bins_s": (0, 1, 2)}, "expected one of them"),
        ({"window_s": (0.2, 0.1)}, r"window_s: expected times in seconds that rise, got \(0.2, 0.1\)"),
        ({"window_s": (0.2,)}, "window_s: expected begin, end"),
        ({"bins_s": (0, 0.1)}, "bins_s: expected begin, width, number"),
        ({"bins_s": (0, 0.1, 2.5)}, "bins_s: expected a whole number of bins"),
    ],
)
def test_windows_that_are_none(ds, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        analysis.counts(ds, **options)


def test_without_spikes(ds):
    plain = present(SmallRig(spikes=False), photographs(), resolution=SIDE, progress=False)
    with pytest.raises(RecordingError, match="expected one with spikes"):
        analysis.counts(plain, (0, 0.1))
    with pytest.raises(RecordingError, match="select presentations and units, never `spike`"):
        analysis.counts(ds.isel(spike=slice(0, 5)), (0, 0.1))
    joined = analysis.concat([ds, ds])
    assert "spike_time_s" not in joined
    assert joined.sizes["presentation"] == 2 * ds.sizes["presentation"]


@pytest.mark.parametrize(
    ("subject", "window"),
    [
        ({"name": "rig:folder:/tmp/rig"}, (0.05, 0.2)),
        ({"name": "rig:zmq://127.0.0.1:5570", "window_s": [0.07, 0.17]}, (0.07, 0.17)),
        ({"name": "lossy", "subject": {"name": "rig:folder:a", "window_s": [0, 0.1]}}, (0.0, 0.1)),
        ({"name": "small-rig"}, None),  # a rig of the user's own counts where it likes
        (None, None),
    ],
)
def test_the_window_in_which_a_run_counted(ds, subject, window):
    told = ds.assign_attrs(experiment=yaml.safe_dump({"subject": subject}))
    assert counting_window(told) == window
    assert counting_window(told.drop_vars("spike_time_s")) is None
    assert counting_window(told.rename(neuroid="time_bin")) is None
    name = {None: "response (spikes)"}.get(window, f"response (spikes, {1000 * (window or [0])[0]:g} to ")
    assert score_name(told, "unit(0)").startswith(name)


def test_without_an_experiment_no_window_is_known(ds):
    ds = ds.drop_attrs()
    assert counting_window(ds) is None
    assert score_name(ds, "unit(0)") == "response (spikes)"
    assert score_name(ds.drop_vars("spike_time_s"), "unit(0)") == "response"


def test_a_rig_counts_where_it_is_said_by_default():
    assert inspect.signature(RigSubject).parameters["window_s"].default == Answers(()).window_s


def test_spikes_taken_and_joined():
    rng = np.random.default_rng(0)
    number = rng.integers(0, 4, 6)
    spikes = Spikes(rng.random(number.sum()), rng.integers(0, 3, number.sum()), np.append(0, np.cumsum(number)))
    order = rng.permutation(6)
    moved = spikes.taken(order)
    np.testing.assert_array_equal(moved.counts((0, 1), 3), spikes.counts((0, 1), 3)[order])
    np.testing.assert_array_equal(moved.taken(np.argsort(order)).time_s, spikes.time_s)
    double = Spikes.join([spikes, moved])
    np.testing.assert_array_equal(double.counts((0, 1), 3)[6:], moved.counts((0, 1), 3))
