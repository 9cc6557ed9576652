"""Files are as they were, or complete."""

import os
import signal
import threading
import time

import pytest

from closedloop.errors import RecordingError
from closedloop.files import complete, meanwhile, replace_file, replace_files, synchronize


def test_a_file_is_replaced(tmp_path):
    file = tmp_path / "file"
    for content in (b"one", b"two"):
        replace_file(file, content)
        assert file.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    replace_file(file, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"


def test_several_files_are_replaced(tmp_path):
    files = {tmp_path / f"{i}": bytes([i]) * 100 for i in range(40)}
    for content in ({}, files, {path: data * 2 for path, data in files.items()}):
        replace_files(content)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_one_of_several_that_fails_is_an_error_and_keeps_the_old_file(tmp_path):
    old = {tmp_path / "a": b"old", tmp_path / "b": b"old"}
    replace_files(old)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        replace_files({tmp_path / "a": b"new", tmp_path / "nowhere" / "c": b"new"})
    assert (tmp_path / "a").read_bytes() in (b"old", b"new")
    assert (tmp_path / "b").read_bytes() == b"old"


def test_something_is_done_to_the_disk_beside_other_work():
    begun, said = threading.Event(), []

    def slow():
        begun.wait(60)
        said.append("disk")

    with meanwhile(slow):
        said.append("work")
        begun.set()
    assert said == ["work", "disk"]


@pytest.mark.parametrize("within", [None, ValueError("work")])
def test_what_the_disk_says_comes_first(within):
    def full():
        raise OSError(28, "No space left on device")

    def work():
        if within is not None:
            raise within

    with pytest.raises(OSError, match="No space left"), meanwhile(full):
        work()


def test_an_error_of_the_work_waits_for_the_disk():
    said = []
    with pytest.raises(ValueError, match="work"), meanwhile(lambda: said.append(time.sleep(0.1))):
        raise ValueError("work")
    assert said == [None]


def test_ctrl_c_waits_for_the_disk():
    said, within = [], threading.Event()

    def interrupted():
        within.wait(60)
        for _ in range(2):  # a person is impatient
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        said.append("disk")

    def work():
        within.set()
        time.sleep(60)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"^$"), meanwhile(interrupted):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == ["disk"]


def test_synchronize_takes_files_folders_and_what_is_not_there(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path, tmp_path / "nothing"):
        synchronize(path)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_a_place_that_is_taken_stays(tmp_path, replace, folder):
    out = tmp_path / "x"
    (out.mkdir() if folder else out.write_text("mine"))
    ends = pytest.raises(RecordingError, match=r"x: .*x exists already|x: expected the name of a file")
    if replace and not folder:
        ends = pytest.raises(KeyError, match="stop")
    with ends, complete(out, replace, "x") as temporary:
        temporary.write_text("half")
        raise KeyError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert folder or out.read_text() == "mine"
    if replace and not folder:
        with complete(out, replace) as temporary:
            temporary.write_text("whole")
        assert out.read_text() == "whole"


def test_a_link_that_leads_nowhere_is_taken(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match="exists already"), complete(tmp_path / "x"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_was_made_meanwhile_stays(tmp_path):
    def write(temporary):
        temporary.write_text("mine")
        (tmp_path / "x").write_text("another's")

    with pytest.raises(RecordingError, match="exists already"), complete(tmp_path / "x") as temporary:
        write(temporary)
    assert (tmp_path / "x").read_text() == "another's"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "x/" + "n" * 300])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(RecordingError, match=r"out: (cannot write|no file can have the name)"):
        with complete(tmp_path / name):
            pytest.fail("nothing is to be written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["data.zarr", "references", "images", "state/deeper"])
def test_a_place_among_what_a_run_reads_back(tmp_path, inside):
    (tmp_path / "run" / inside).mkdir(parents=True)
    (tmp_path / "run" / "experiment.yaml").touch()
    out = tmp_path / "run" / inside / "x.png"
    with pytest.raises(RecordingError, match="would lie among the files of the run"), complete(out):
        pass
    with complete(tmp_path / "run" / "table.csv") as temporary:
        temporary.write_text("beside them")
    assert not out.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_leaves_nothing(tmp_path, error):
    def fail(temporary):
        temporary.mkdir()
        (temporary / "part").write_text("half")
        raise error("stop")

    with pytest.raises(error, match="stop"), complete(tmp_path / "a" / "b" / "x") as temporary:
        fail(temporary)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    child = os.fork()
    if child == 0:
        with complete(tmp_path / "x.nc") as temporary:
            temporary.write_text("half")
            os._exit(0)
    os.waitpid(child, 0)
    assert [p.name.startswith(".partial-") for p in tmp_path.iterdir()] == [True]
    with complete(tmp_path / "x.nc") as temporary:
        assert temporary.suffix == ".nc"
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nc"]


def test_a_clean_up_that_is_refused_does_not_hide_the_error(tmp_path, monkeypatch):
    def refused(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    def fail(temporary):
        temporary.write_text("half")
        monkeypatch.setattr("pathlib.Path.unlink", refused)
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(RecordingError, match=r"\(No space left on device\); not"),
        complete(tmp_path / "x") as temporary,
    ):
        fail(temporary)
