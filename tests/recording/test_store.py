"""What stands in the group of a run: in memory and on the disk alike."""

import json

import numpy as np
import pytest
import xarray as xr

from closedloop.interfaces import Units
from closedloop.recording.layout import Layout, Rows, Variable
from closedloop.recording.store import columns_of, described
from closedloop.recording.writer import Recording

UNITS = Units(("a", "b"), {"x": (1.5, np.nan), "edge": (np.inf, -np.inf), "channel": (3, -1), "label": ("owl", "")})
LAYOUT = Layout(
    20,
    3,
    UNITS,
    {"subject": "cell", "seed": 4, "radius": 0.1},
    {"angle": ("float64", np.nan), "small": ("float32", np.nan), "big": ("int64", -1), "group": ("str", "")},
    {"evolution": ["m"], "optimizer": ["cma"]},
    {"curve": Variable("float32", np.nan, ("point",), (2,)), "cost": Variable("int16", -1)},
)


def rows():
    coords = {
        "thread": np.array(["m", "reference"]),
        "generation": np.array([0, 1], np.int32),
        "kind": np.array(["evolved", "reference"]),
        "stimulus_id": np.array(["é", "b"]),
        "repeat": np.array([0, 1], np.int32),
        "onset_s": np.array([0.1, np.nan]),
        "angle": np.array([-0.0, np.inf]),
        "small": np.array([0.1, 3], np.float32),
        "big": np.array([2**60 + 1, -5]),
        "group": np.array(["x; y", ""]),
    }
    more = {"curve": np.ones((2, 2), np.float32), "cost": np.array([7, -7], np.int16)}
    return Rows(coords, np.ones((2, 2, 3), np.float16), np.zeros((2, 3)), np.array([1.0, np.nan]), variables=more)


@pytest.fixture
def both(tmp_path):
    """The same rows in memory and on the disk."""
    found = []
    for place in (None, tmp_path / "run"):
        recording = Recording.create(place, LAYOUT, {})
        recording.append(rows(), {})
        found.append(recording.dataset().load())
        recording.close()
    return found


def test_memory_and_disk_give_the_same(both):
    memory, disk = both
    xr.testing.assert_equal(memory, disk)
    assert {n: v.dtype for n, v in memory.variables.items()} == {n: v.dtype for n, v in disk.variables.items()}


def test_values_and_types_are_those_that_were_given(both):
    given = rows()
    for found in both:
        for name, values in given.coords.items():
            np.testing.assert_array_equal(found[name].values, values)
            assert found[name].dtype == (object if values.dtype.kind == "U" else values.dtype)
            assert name in found.coords
        assert np.signbit(found["angle"].values[0])
        assert found["big"].values.tolist() == [2**60 + 1, -5]
        assert found["responses"].dims == ("presentation", "neuroid", "time_bin")
        assert set(found.data_vars) == {"responses", "latent_code", "score", "curve", "cost"}
        np.testing.assert_array_equal(found["edge"], [np.inf, -np.inf])
        np.testing.assert_array_equal(found["x"], [1.5, np.nan])
        assert found["channel"].dtype == np.int64
        assert found["label"].values.tolist() == ["owl", ""]
        assert (found["seed"].item(), found["radius"].item(), found["subject"].item()) == (4, 0.1, "cell")


def test_attributes_are_json_as_the_standard_has_it():
    text = json.dumps(described(LAYOUT, columns_of(LAYOUT, rows())), allow_nan=False)
    assert list(json.loads(text)["numbers"])[:2] == ["score", "cost"]
    assert "big" not in json.loads(text)["numbers"]
