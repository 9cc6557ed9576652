"""What a person was told while a run went on is kept beside its data, and read with suspicion."""

import json

import pytest

from closedloop.protocols import present
from closedloop.recording import notes, pack
from closedloop.recording.layout import NOTICES
from tests import small_runs


def lines(folder, *written):
    (folder / NOTICES).write_bytes(b"\n".join(written))
    return notes.read_notes(folder)


def test_notes_are_read_as_they_were_added(tmp_path):
    assert notes.read_notes(tmp_path) == []
    assert notes.notes_size(tmp_path) == 0
    notes.add_note(tmp_path, {"at_s": 1.5, "text": "rig silent for 5 s", "about": "silence", "well": False})
    size = notes.notes_size(tmp_path)
    notes.add_note(tmp_path, {"at_s": 2, "text": "the rig answers again", "about": "silence", "well": True})
    assert notes.read_notes(tmp_path) == [
        notes.Note(1.5, "rig silent for 5 s", "silence"),
        notes.Note(2.0, "the rig answers again", "silence", True),
    ]
    assert 0 < size < notes.notes_size(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"[1]",
        b'{"at_s": NaN, "text": "a"}',
        b'{"at_s": true}',
        b'{"at_s": 1' + b"0" * 500 + b', "text": "a"}',
        b'{"at_s": 1, "text": 2}',
        b'{"at_s": "1", "text": "a"}',
        b'{"at_s": 1, "text": "a", "about": []}',
        b"[" * 30000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_note_is_left_out(tmp_path, line):
    assert [note.text for note in lines(tmp_path, line, b'{"at_s": 3, "text": "b"}')] == ["b"]


def test_of_a_long_list_the_end_is_read_and_of_long_words_the_beginning(tmp_path):
    many = [json.dumps({"at_s": i + 1, "text": f"{i} " + "x" * 1000}).encode() for i in range(200)]
    found = lines(tmp_path, *many)
    assert 10 < len(found) < 100
    assert found[-1].at_s == 200
    assert all(len(note.text) == 300 for note in found)
    assert [note.at_s for note in found] == list(range(201 - len(found), 201))


def test_links_and_folders_are_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").write_bytes(b'{"at_s": 3, "text": "secret"}')
    (tmp_path / "run" / NOTICES).symlink_to(tmp_path / "elsewhere")
    assert notes.read_notes(tmp_path / "run") == []
    (tmp_path / "run" / NOTICES).unlink()
    (tmp_path / "run" / NOTICES).mkdir()
    assert notes.read_notes(tmp_path / "run") == []


def test_they_travel_with_a_packed_run(tmp_path):
    small_runs.run("present", tmp_path / "run")
    notes.add_note(tmp_path / "run", {"at_s": 3, "text": "b"})
    assert [note.text for note in notes.read_notes(pack(tmp_path / "run"))] == ["b"]


def test_a_run_begins_again_where_one_died_that_had_only_something_to_say(tmp_path):
    notes.add_note(tmp_path, {"at_s": 3, "text": "rig silent for 5 s"})
    present(small_runs.cells(), small_runs.pictures(3), save=tmp_path)
    assert notes.read_notes(tmp_path) == []
