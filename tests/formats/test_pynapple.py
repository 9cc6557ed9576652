"""pynapple: responses, presentations and codes with the values that were recorded."""

import numpy as np
import pynapple
import pytest

from closedloop import open_recording
from closedloop.errors import InvalidArgumentError, MissingExtraError
from closedloop.formats import to_pynapple
from closedloop.formats.pynapple import presentation_s

from .conftest import Cells, evolution


def test_values_times_and_metadata(run):
    recording = open_recording(run)
    found = to_pynapple(recording)
    assert isinstance(found.responses, pynapple.TsdFrame)
    np.testing.assert_array_equal(found.responses.values, recording["responses"])
    np.testing.assert_allclose(found.responses.t, recording["onset_s"], atol=1e-9)
    assert list(found.responses.columns) == ["cell.0", "cell.1", "cell.2"]
    assert list(found.responses["layer"]) == ["a", "b", "a"]
    assert len(found.presentations) == recording.sizes["presentation"]
    np.testing.assert_allclose(found.presentations.start, recording["onset_s"], atol=1e-9)
    for name in ("thread", "stimulus_id", "generation", "kind", "repeat"):
        assert list(found.presentations[name]) == recording[name].values.tolist()
    np.testing.assert_array_equal(np.asarray(found.presentations["score"]), recording["score"])
    coded = (recording["thread"] != "reference").values
    np.testing.assert_array_equal(found.codes.values, recording["latent_code"].values[coded])


def test_its_own_functions_work_on_it(run):
    found = to_pynapple(open_recording(run))
    evolved = found.presentations[found.presentations["kind"] == "evolved"]
    restricted = found.responses.restrict(evolved)
    assert len(restricted) == len(evolved)


def test_a_time_axis_and_no_codes():
    recording = evolution(None, Cells(2, bins=4), threads=1)
    found = to_pynapple(recording)
    assert isinstance(found.responses, pynapple.TsdTensor)
    np.testing.assert_array_equal(found.responses.values, recording["responses"])
    assert to_pynapple(recording.drop_vars("latent_code")).codes is None


def test_times_that_do_not_rise(run):
    recording = open_recording(run)
    for onset in (recording["onset_s"] * 0, recording["onset_s"] * np.nan, recording["onset_s"][::-1].values):
        with pytest.raises(InvalidArgumentError, match="presentations whose onset_s rises"):
            to_pynapple(recording.assign_coords(onset_s=("presentation", np.asarray(onset))))


def test_the_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynapple", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[pynapple\]'"):
        to_pynapple(open_recording(run))


PARTS = {
    "some": [0, 2, 3],
    "every other": slice(None, None, 2),
    "one": [5],
    "two far apart": [0, 40],
    "the last": [-1],
    "all": slice(None),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_intervals_of_a_part_are_as_long_as_presentations(run, part):
    recording = open_recording(run).isel(presentation=part)
    found = to_pynapple(recording).presentations
    np.testing.assert_allclose(found.start, recording["onset_s"], atol=1e-9)
    np.testing.assert_allclose(found.end - found.start, 0.2, atol=2e-6)


def test_how_long_a_presentation_is(run):
    recording = open_recording(run)
    assert presentation_s(recording) == 0.2
    assert presentation_s(recording.isel(presentation=[0, 9])) == 0.2
    measured = recording.assign_coords(onset_s=recording["onset_s"] * 1.07 + 0.013)  # at a rig, by its own clock
    assert presentation_s(measured) == pytest.approx(0.214)
    nothing = recording.assign_attrs(experiment="")
    assert presentation_s(nothing) == pytest.approx(0.2)
    assert presentation_s(nothing.isel(presentation=[3])) == 1
    quick = recording.assign_coords(onset_s=recording["onset_s"] / 4)  # one follows before the nominal end
    ends = to_pynapple(quick).presentations
    np.testing.assert_allclose((ends.end - ends.start), 0.05, atol=2e-6)
