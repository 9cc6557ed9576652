import numpy as np
import pytest
import xarray as xr

from closedloop.interfaces import Units
from closedloop.recording.titles import recorded_title, recorded_titles, result_title, subject_title, unit_title


def facts(layer, channel, y, x, position, label=""):
    return {"layer": layer, "channel": channel, "y": y, "x": x, "position": position, "label": label}


@pytest.mark.parametrize(
    ("known", "title"),
    [
        (facts("blocks.4", 30, 7, 7, "central"), "channel 30 of blocks.4, centre (7, 7)"),
        (facts("blocks.4", 30, 3, 0, "given"), "channel 30 of blocks.4, at (3, 0)"),
        (facts("blocks.6", 2, 0, 0, "central"), "channel 2 of blocks.6, centre (0, 0)"),
        (facts("output", 971, -1, -1, "none", "bubble"), "unit 971 (bubble) of the output"),
        (facts("fc1", 4, -1, -1, "none"), "unit 4 of fc1"),
        (facts("encoder.3", 5, 0, 106, "central"), "channel 5 of encoder.3, central token 106"),
        (facts("encoder.3", 5, 0, 10, "middle"), "channel 5 of encoder.3, middle token 10"),
        (facts("encoder.3", 5, 0, 3, "given"), "channel 5 of encoder.3, at (0, 3)"),
        (facts("fc1", 4.0, np.nan, np.nan, ""), "unit 4 of fc1"),
        ({"layer": "V4", "channel": "array-7"}, "rig.7"),
        ({"layer": "V4"}, "rig.7"),
        ({"label": "owl"}, "rig.7 (owl)"),
        ({}, "rig.7"),
    ],
)
def test_a_unit_is_called_as_people_call_it(known, title):
    assert unit_title("rig.7", known) == title


def test_recordings_results_and_subjects_are_asked_alike():
    coords = {
        "layer": ("conv", "output"),
        "channel": (1, 2),
        "y": (4, -1),
        "x": (4, -1),
        "position": ("central", "none"),
    }
    units = Units(("net.conv.1@4,4", "net.output.2"), coords)
    columns = {"neuroid_id": units.neuroid_id, **coords}
    recording = xr.Dataset(coords={name: ("neuroid", list(column)) for name, column in columns.items()})
    wanted = ["channel 1 of conv, centre (4, 4)", "unit 2 of the output"]
    assert recorded_titles(recording) == wanted
    assert [subject_title(units, column) for column in (0, 1)] == wanted
    assert recorded_title(recording.assign_coords(label="whole"), 1) == wanted[1]  # a scalar says nothing of a unit
    one = xr.Dataset(coords={"neuroid_id": "net.output.2", "label": "cat"})
    assert result_title(one) == "net.output.2 (cat)"
    assert result_title(one.assign_coords(title=wanted[1])) == wanted[1]
