"""What the errors page knows, held beside what a diagnosis records."""

import numpy as np
import pytest

from closedloop.analysis import driving_units
from closedloop.errors import InvalidArgumentError
from closedloop.protocols import diagnose
from closedloop.viewer.desk import Desk
from closedloop.viewer.errors_room import ErrorsRoom
from tests.planted import planted_folder, planted_subject


@pytest.fixture
def room(tmp_path):
    room = ErrorsRoom(planted_subject(), planted_folder(tmp_path / "pictures"), Desk())
    while room._work() is not None:
        room._work()()
    return room


def test_it_finds_what_a_diagnosis_finds(room, tmp_path):
    assert room.errors().tolist() == [0, 1, 2]
    assert room.waiting() == []
    room.asked = True
    assert room.waiting() == [0, 1, 2]
    while room._work() is not None:
        room._work()()
    run = diagnose(planted_subject(), tmp_path / "pictures", controls=0)
    one, other = driving_units(room.recording()), driving_units(run)
    np.testing.assert_array_equal(one["corrects"], other["corrects"])
    np.testing.assert_allclose(one["effect"], other["effect"], atol=1e-4)


def test_a_unit_answers_an_image_most_at_its_peak(room):
    spurious = planted_subject().model.spurious
    looked = room.looked("relu")
    y0, x0, y1, x1 = looked.box(0, spurious)
    assert 10 <= y0 < y1 <= 15  # within the blue corner
    assert 10 <= x0 < x1 <= 15
    assert set(looked.best(spurious, without=0, most=2)) == {1, 2}
    assert divmod(looked.place(0, spurious), 16) == (y0, x0)  # a layer of single pixels


def test_layers_are_those_that_can_be_held_still(room):
    assert room.layers == ("conv", "relu")


def test_what_was_asked_for_early_is_explained_again_with_the_means_of_all(tmp_path):
    room = ErrorsRoom(planted_subject(), planted_folder(tmp_path / "pictures"), Desk())
    room._looked[room.layer].look(np.array([0]), room.study.read(np.array([0])))
    room.explain_now(0, room.layer)
    while room._work() is not None:
        room._work()()
    assert room.explained() == {}


def test_nothing_is_known_of_peaks_before_the_first_image(tmp_path):
    room = ErrorsRoom(planted_subject(), planted_folder(tmp_path / "pictures"), Desk())
    other = ErrorsRoom(planted_subject(), tmp_path / "pictures", Desk())
    assert room.looked("relu").box(0, 0) == other.looked("relu").box(0, 0)
    assert room.looked("relu").best(0, without=1) == []


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path):
    folder = planted_folder(tmp_path / "pictures")
    (folder / "red" / "inside.png").symlink_to(folder / "green" / "00.png")
    ErrorsRoom(planted_subject(), folder, Desk())
    (tmp_path / "secret.png").write_bytes((folder / "green" / "00.png").read_bytes())
    (folder / "red" / "out.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InvalidArgumentError, match=r"1 image in .* links that lead out of it: red/out.png; copy them"):
        ErrorsRoom(planted_subject(), folder, Desk())
