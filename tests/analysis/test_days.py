"""Days at a rig: what became of the trials, and whether the units stayed the same."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import reference_days, sittings
from closedloop.errors import RecordingError
from closedloop.presentations import STATUSES
from tests.loop.test_answers import session
from tests.small_rig import SmallRig

RNG = np.random.default_rng(3)


def recording(tuning, gains, seed=0, mean=20.0):
    """Shows 40 references once on each day, by days: units' tuning ``(days, units, 40)``, and gains."""
    rng, days, units = np.random.default_rng(seed), len(gains), tuning.shape[1]
    counts = np.concatenate([rng.poisson(gain * mean * t.T) for gain, t in zip(gains, tuning, strict=True)])
    n = len(counts)
    text = {"thread": "reference", "kind": "reference"}
    coords = {name: ("presentation", np.full(n, value, object)) for name, value in text.items()} | {
        "stimulus_id": ("presentation", np.tile([f"i{k:02d}" for k in range(40)], days).astype(object)),
        "status": ("presentation", np.full(n, "ok", object)),
        "day": ("presentation", np.repeat([f"2026-03-1{d}" for d in range(days)], 40).astype(object)),
        "attempt": ("presentation", np.ones(n, int)),
        "block_number": ("presentation", np.repeat(np.arange(days), 40)),
        "neuroid_id": ("neuroid", np.array([f"u{i}" for i in range(units)], object)),
    }
    return xr.Dataset({"responses": (("presentation", "neuroid"), counts.astype(float))}, coords)


def test_the_same_unit_that_fades_and_another_one_are_told_apart():
    same = RNG.exponential(1, (1, 40)).repeat(2, 0)[:, None]
    other = np.stack([RNG.exponential(1, 40), RNG.exponential(1, 40)])[:, None]
    found = reference_days(recording(np.concatenate([same, other], axis=1), [1.0, 0.7]))
    assert found["day"].values.tolist() == ["2026-03-10", "2026-03-11"]
    np.testing.assert_array_equal(found["ratio"].values[0], 1)
    np.testing.assert_array_equal(found["n"].values, 40)
    second = found.isel(day=1)
    assert abs(second["ratio"].values[0] - 0.7) < 3 * second["ratio_sem"].values[0] < 0.2
    assert second["correlation"].values[0] > 0.85
    assert abs(second["correlation"].values[1]) < 0.35


def test_the_standard_error_is_that_of_repeated_sessions():
    tuning = RNG.exponential(1, (1, 1, 40)).repeat(2, 0)
    found = [reference_days(recording(tuning, [1, 0.8], seed=s)).isel(day=1, neuroid=0) for s in range(60)]
    ratio, sem = (np.array([float(f[name]) for f in found]) for name in ("ratio", "ratio_sem"))
    assert ratio.mean() == pytest.approx(0.8, abs=0.02)
    assert sem.mean() == pytest.approx(ratio.std(ddof=1), rel=0.3)


def test_what_is_missing_has_its_reason():
    tuning = RNG.exponential(1, (2, 1, 40))
    ds = recording(tuning, [1, 1])
    ds["responses"].values[42:] = np.nan
    found = reference_days(ds)
    assert np.isnan(found["ratio"].values[1, 0])
    assert "fewer than three references" in found["reason"].values[1, 0]
    with pytest.raises(RecordingError, match="made at a rig"):
        reference_days(ds.drop_vars("status"))
    with pytest.raises(RecordingError, match="no presentation of kind"):
        reference_days(ds.assign_coords(kind=("presentation", np.full(80, "evolved", object))))


def test_trials_are_counted_by_what_became_of_them():
    ds = session(SmallRig(lost=0.3)).run()
    found = sittings(ds)
    assert found.sizes == {"day": 1, "status": len(STATUSES)}
    assert int(found["presentations"][0]) == ds.sizes["presentation"] == int(found["count"].sum())
    for status in STATUSES:
        assert int(found["count"].sel(status=status)[0]) == int((ds["status"] == status).sum())
    assert float(found["lost"][0]) == pytest.approx(float((ds["status"] != "ok").mean()))
    assert int(found["blocks"][0]) == len(np.unique(ds["block_number"]))
    assert int(found["again"][0]) == 0
