"""A process whose folder was moved, removed or replaced under it writes no more, and says where its generations lie."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from closedloop.errors import RecordingError
from closedloop.recording import ownership
from closedloop.recording.layout import Layout
from closedloop.recording.ownership import OwnFolder
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from tests.recording.test_writer import UNITS, assert_holds, create, rows

pytestmark = pytest.mark.skipif(os.name != "posix", reason="where folders with open files can be moved")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun(folder):
    recording = create(folder)
    recording.append(rows(4, 0), {"g": 0})
    return recording


ENDS = {
    "append": lambda recording: recording.append(rows(4, 1), {"g": 1}),
    "finish": lambda recording: recording.finish({"g": 1}),
    "keep": lambda recording: recording.keep("note.txt", b"a note"),
}


@pytest.mark.parametrize("step", ENDS)
def test_another_run_under_the_same_name_is_left_alone(tmp_path, step):
    recording, folder, moved = begun(tmp_path / "r"), tmp_path / "r", tmp_path / "r-old"
    folder.rename(moved)
    other = create(folder)
    for generation in range(3):
        other.append(rows(5, generation, seed=9), {"g": generation})
    other.finish({})
    other.close()
    before = contents(tmp_path)
    told = rf"was moved to {moved}; nothing more is written\. Every finished"
    with pytest.raises(RecordingError, match=told) as caught:
        ENDS[step](recording)
    assert str(caught.value).endswith(f"is safe in {moved}; go on with: closedloop resume {moved}.")
    recording.close()
    assert contents(tmp_path) == before
    assert_holds(open_recording(moved), rows(4, 0))
    assert open_recording(folder).attrs["finished"] == 1


@pytest.mark.parametrize("step", ENDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("away")), r"was moved to .*away; .*closedloop resume .*away"),
        (shutil.rmtree, "was removed; nothing more is written. What was finished went with it"),
        (lambda folder: (shutil.rmtree(folder), folder.write_text("a file")), "was removed; nothing more"),
        (lambda folder: (folder.rename(folder.with_name("away")), folder.mkdir()), "was moved to .*away"),
        (
            lambda folder: (folder.rename(folder.with_name("away")), folder.symlink_to(folder.parent)),
            "was moved to .*away",
        ),
        (lambda folder: (folder / "LOCK").unlink(), r"lost its LOCK, so that another process may be writing"),
        (
            lambda folder: ((folder / "LOCK").unlink(), (folder / "LOCK").touch()),
            r"lost its LOCK, so that another .* is safe in .*r; go on with: closedloop resume",
        ),
        (
            lambda folder: (folder / "data.zarr").rename(folder / "away"),
            r"its data.zarr was moved, .* Put it back, then",
        ),
        (
            lambda folder: (shutil.rmtree(folder / "data.zarr"), (folder / "data.zarr").mkdir()),
            r"its data.zarr was .* replaced",
        ),
    ],
    ids=["moved", "removed", "a file", "replaced", "a link", "no lock", "another lock", "no store", "another store"],
)
def test_a_folder_that_is_no_longer_its_own(tmp_path, change, message, step):
    recording = begun(tmp_path / "r")
    change(tmp_path / "r")
    before = contents(tmp_path)
    with pytest.raises(RecordingError, match=message):
        ENDS[step](recording)
    recording.close()
    assert contents(tmp_path) == before


def test_a_link_to_the_folder_itself_is_the_folder(tmp_path):
    recording = begun(tmp_path / "r")
    (tmp_path / "r").rename(tmp_path / "disk")
    (tmp_path / "r").symlink_to(tmp_path / "disk")
    recording.append(rows(4, 1), {})
    recording.close()
    assert_holds(open_recording(tmp_path / "disk"), rows(4, 0), rows(4, 1))


def test_before_the_first_generation(tmp_path):
    recording = Recording.create(tmp_path / "r", Layout(9, 3, UNITS, {}), {})
    (tmp_path / "r").rename(tmp_path / "away")
    with pytest.raises(RecordingError, match=r"was moved to .*away; .* No generation was finished yet"):
        recording.append(rows(4, 0), {})
    recording.close()
    assert not (tmp_path / "r").exists()


def test_a_folder_moved_while_rows_are_written_gets_no_pointer(tmp_path, monkeypatch):
    recording, folder = begun(tmp_path / "r"), tmp_path / "r"

    def moving(state):
        folder.rename(tmp_path / "away")
        folder.mkdir()
        return b""

    monkeypatch.setattr("closedloop.recording.writer.pack_state", moving)
    with pytest.raises(RecordingError, match=r"was moved to|cannot write"):
        recording.append(rows(4, 1), {})
    recording.close()
    assert not (folder / "COMMITTED.json").exists()
    assert_holds(open_recording(tmp_path / "away"), rows(4, 0))


def test_where_the_system_does_not_tell_the_place(tmp_path, monkeypatch):
    own = OwnFolder(tmp_path)
    own.check()
    monkeypatch.setattr(OwnFolder, "_place", lambda own: None)
    (tmp_path / "LOCK").unlink()
    with pytest.raises(RecordingError, match="was moved, removed or replaced; nothing more is written"):
        own.check()
    own.release()


def test_a_folder_is_taken_once(tmp_path):
    own = OwnFolder(tmp_path)
    with pytest.raises(RecordingError, match="this process is writing this run already"):
        OwnFolder(tmp_path)
    own.release()
    own.release()
    held = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); input()"
    place, pipe = str(tmp_path / "LOCK"), subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", held, place], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RecordingError, match="another process is writing this run; wait for it, or stop it"):
            OwnFolder(tmp_path)
        other.communicate(b"\n")
    OwnFolder(tmp_path).release()
    OwnFolder(tmp_path).release()
    assert ownership.LOCK == "LOCK"
