"""Curves that grow: lost presentations, repeats, and drift against the first presentation."""

from __future__ import annotations

import numpy as np

from closedloop.viewer.curves import Baseline, Curve


def test_curves_of_lost_presentations():
    curve = Curve("main", "unit(0)", "cell")
    curve.add(0, np.array(["a", "a", "b"]), np.array([np.nan, np.nan, 2.0]))
    curve.add(1, np.array(["c"]), np.array([np.nan]))
    assert curve.columns["images"] == [3, 4]
    assert curve.columns["mean"][0] == 2.0
    assert np.isnan(curve.columns["mean"][1])
    baseline = Baseline()
    baseline.add(-1, np.array(["x", "y"]), {"main": np.array([1.0, 3.0])})
    baseline.add(0, np.array(["y"]), {"main": np.array([3.5])})
    assert baseline.since(-1)["drift"] == {"main": [0.5]}
