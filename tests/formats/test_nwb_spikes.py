"""A rig's recording as NWB: units with spike times, electrodes, trials, and all of it back."""

from __future__ import annotations

import numpy as np
import pynapple
import pytest
from pynwb import NWBHDF5IO

from closedloop import open_recording, to_pynapple
from closedloop.formats import export
from closedloop.formats.nwb_spikes import SAME_S
from closedloop.formats.rig_times import rig_times
from tests.loop.test_answers import session
from tests.small_rig import SmallRig

from .conftest import assert_same
from .test_nwb import messages

KINDS = {
    "spikes": {},
    "bins": {"bins_s": (-0.1, 0.05, 8)},
    "counts alone": {"spikes": False},
    "one unit": {"units": 1},
    "two units": {"units": 2},
    "no quality": {"quality": False},
    "nothing lost": {"lost": 0},
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", KINDS)
def test_the_inspector_finds_nothing_and_the_recording_comes_back_exactly(kind, tmp_path):
    session(SmallRig(**KINDS[kind]), tmp_path / "run", images=18).run()
    path = export(tmp_path / "run", "nwb", tmp_path / "run.nwb")
    assert messages(path) == []
    assert_same(open_recording(path), open_recording(tmp_path / "run"))


def test_netcdf_comes_back_exactly(tmp_path):
    session(SmallRig(), tmp_path / "run", images=18).run()
    path = export(tmp_path / "run", "netcdf", tmp_path / "run.nc")
    with open_recording(path) as found:
        assert_same(found, open_recording(tmp_path / "run"))


def test_each_spike_stands_once_on_the_axis_of_the_session(tmp_path):
    ds = session(SmallRig(), images=18).run()
    export(ds, "nwb", tmp_path / "run.nwb", images=False)
    start, _ = rig_times(ds)
    known = np.isfinite(ds.onset_s.values)
    np.testing.assert_array_equal(start[known], ds.onset_s.values[known])
    assert (np.diff(start) > 0).all()
    when = np.repeat(start, ds.spike_count.values) + ds.spike_time_s.values
    with NWBHDF5IO(str(tmp_path / "run.nwb"), "r") as io:
        nwb = io.read()
        units = nwb.units.to_dataframe()
        assert units.neuroid_id.tolist() == ["u0", "u1", "u2"]
        assert len(nwb.electrodes) == 3
        for number in range(3):
            own = np.sort(when[ds.spike_unit.values == number])
            times = nwb.units["spike_times"][number]
            assert (np.diff(times) > SAME_S).all()
            assert np.abs(own[np.searchsorted(own, times - 1e-9)] - times).max() < 1e-9
            assert len(own) - (np.diff(own) <= SAME_S).sum() == len(times)
        assert nwb.trials["status"].data[:].tolist() == ds.status.values.tolist()
        assert nwb.processing["misc"]["unit_quality"]["unit_snr"].data.shape == (ds.sizes["block"], 3)
    loaded = pynapple.load_file(str(tmp_path / "run.nwb"))
    assert len(loaded["units"]) == 3


def test_pynapple_has_the_spikes_and_all_presentations():
    ds = session(SmallRig(lost=0.5), images=18).run()
    assert np.isnan(ds.onset_s).any()
    found = to_pynapple(ds)
    start, _ = rig_times(ds)
    np.testing.assert_allclose(found.presentations.start, start)
    when = np.repeat(start, ds.spike_count.values) + ds.spike_time_s.values
    for number in range(3):
        own = np.sort(when[ds.spike_unit.values == number])
        np.testing.assert_allclose(found.spikes[number].t, own[np.append(True, np.diff(own) > SAME_S)], atol=1e-8)
    assert list(found.spikes["neuroid_id"]) == ["u0", "u1", "u2"]
    assert to_pynapple(session(SmallRig(spikes=False), images=18).run()).spikes is None


def test_a_clock_that_begins_anew_is_known_by_the_sittings_also_where_it_is_ahead():
    """The rig was idle for longer on the second day than it ran on the first."""
    ds = session(SmallRig(lost=0), images=18).run()
    n = ds.sizes["presentation"]
    onset, day, sitting = (ds[name].values.copy() for name in ("onset_s", "day", "session"))
    day[:], sitting[:] = "2026-03-01", "2026-03-01T18:00:00"
    day[n // 3 :], sitting[n // 3 :] = "2026-03-02", "2026-03-02T09:00:00"
    onset[n // 3 :] += 30.0

    def times(sitting):
        columns = {"onset_s": onset, "day": day, "session": sitting}
        return rig_times(ds.assign_coords({name: ("presentation", column) for name, column in columns.items()}))[0]

    start = times(sitting)
    np.testing.assert_array_equal(start[: n // 3], onset[: n // 3])
    assert start[n // 3] == start[0] + 15 * 3600
    np.testing.assert_allclose(np.diff(start)[n // 3 :], np.diff(onset)[n // 3 :])
    sitting[n // 3 :] = "2026-03-01T18:00:20"  # taken up again at once: the clock is right
    np.testing.assert_array_equal(times(sitting), onset)
    sitting[:] = "by hand"
    np.testing.assert_array_equal(times(sitting), onset)


def test_times_go_on_when_the_clock_begins_anew_and_on_another_day():
    ds = session(SmallRig(lost=0), images=18).run()
    n = ds.sizes["presentation"]
    onset, day = ds.onset_s.values.copy(), ds.day.values.copy()
    onset[n // 3 :] -= onset[n // 3] - 1.0  # the rig was started again
    onset[2 * n // 3 :] -= onset[2 * n // 3] - 1.0
    onset[5] = onset[-1] = np.nan
    day[:] = "2026-03-01"
    day[2 * n // 3 :] = "2026-03-03"
    start, usual = rig_times(ds.assign_coords(onset_s=("presentation", onset), day=("presentation", day)))
    assert usual == pytest.approx(0.2)
    steps = np.diff(start)
    assert (steps > 0.05).all()
    assert steps[n // 3 - 1] == pytest.approx(0.2)
    assert start[2 * n // 3] - start[0] >= 2 * 86_400
