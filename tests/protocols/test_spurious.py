"""Units that answer to something else than the object are found by transplants, without being told."""

import sys

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.analysis import spurious_units, suspected_units
from closedloop.loop.protocol import shown_protocol
from closedloop.protocols import diagnose, resume
from closedloop.protocols.spurious import Window
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.pictures import Pictures
from tests.planted import planted_folder, planted_subject


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted_folder(tmp_path_factory.mktemp("planted") / "pictures", 70, 12)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "run"
    diagnose(planted_subject(1), folder, save=place, preferred=400, controls=10, progress=False)
    return place


def test_the_planted_unit_is_spurious_and_no_other(run):
    found = spurious_units(open_recording(run))
    unit = planted_subject(1).model.spurious
    assert found["unit"].values[found["spurious"].values].tolist() == [unit]
    one = found.isel(suspect=found["unit"].values.tolist().index(unit))
    assert one["class_name"].item() == "red"
    assert float(one["turned"]) == 1
    assert float(one["turned_control"]) == 0
    assert float(one["carried"]) == 1  # nothing else carries the corner
    assert float(one["mended"]) == 0  # a window is smaller than the corner
    assert 8 <= int(one["y"]) <= 12  # the corner lies at 10 to 14
    assert 8 <= int(one["x"]) <= 12
    assert int(one["side"]) == 4


def test_what_it_wants_to_see_is_blue(run):
    unit = planted_subject(1).model.spurious
    pictures = Pictures(open_recording(run))
    for how in ("evolved", "ascended"):
        image = pictures.kept(f"unit-{unit}-0-{how}")
        assert image.shape == (16, 16, 3)
        # The unit sees a single pixel, of the corner: its field is blue.
        blueness = image[..., 2].astype(int) - image[..., :2].max(-1)
        assert blueness[10:15, 10:15].max() > 150


def test_a_person_sees_it(run):
    recording = open_recording(run)
    summary = shown_protocol(experiment_of(recording), "run").summary(run, recording)
    unit = planted_subject(1).model.spurious
    table = next(t for t in summary.tables if t.title.startswith("Is it the object"))
    assert [row[0] for row in table.rows if row[-1] == "yes"] == [str(unit)]
    assert any(f"Unit {unit} speaks for “red” and does not answer to the object" in line for line in summary.lines)
    figure = summary.figures["spurious"].draw()
    assert len(figure.axes) == 8


def test_suspects_are_the_units_that_drive_errors(run):
    found = suspected_units(open_recording(run), 2)
    assert int(found["unit"][0]) == planted_subject(1).model.spurious
    assert int(found["errors"][0]) == 12
    assert found.sizes["suspect"] <= 2
    assert suspected_units(open_recording(run), 0).sizes["suspect"] == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_what_was_broken_off_goes_on(folder, run, tmp_path, stop, monkeypatch):
    module = sys.modules["closedloop.protocols.diagnose"]
    monkeypatch.setattr(module, "BLOCK", 200)
    monkeypatch.setattr(module, "EXPLAINED_BLOCK", 100)
    whole = diagnose(planted_subject(1), folder, preferred=60, controls=10, progress=False)
    told = []

    def watch(done, of):
        told.append(done)
        if len(told) == stop:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        diagnose(planted_subject(1), folder, preferred=60, controls=10, save=tmp_path / "run", progress=watch)
    found = resume(tmp_path / "run", subject=planted_subject(1))
    assert found["kind"].values.tolist() == whole["kind"].values.tolist()
    for name in whole.variables:
        np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=str(name))


def test_nothing_is_tested_where_too_few_images_are_left(tmp_path):
    few = planted_folder(tmp_path / "pictures", 12, 3)
    found = diagnose(planted_subject(), few, progress=False)
    assert spurious_units(found).sizes["suspect"] == 0


def test_none_is_tested_unless_asked_for(folder):
    found = diagnose(planted_subject(), folder, suspects=0, controls=0, progress=False)
    assert "suspect" not in found.coords
    assert "activity" not in found


def test_a_window_is_pasted_and_nothing_else_is_changed():
    into, image = np.zeros((3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
    made = Window(2, 4, 3).paste(into, image)
    assert made.sum() == 27
    assert made[:, 2:5, 4:7].all()
    assert not into.any()
