"""The index of a folder of runs: what it finds, when it looks again, and that it can always be made again."""

from __future__ import annotations

import os
import shutil
import sqlite3

import pytest

from closedloop.analysis import run_index
from closedloop.analysis.run_index import RunIndex, look_around, run_id
from closedloop.errors import InvalidArgumentError
from closedloop.recording.ownership import OwnFolder
from closedloop.recording.packing import pack
from tests import small_runs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished evolution, recorded images, and an interrupted evolution."""
    folder = tmp_path_factory.mktemp("made")
    small_runs.run("evolve", folder / "done")
    small_runs.run("present", folder / "seen")
    small_runs.cut_off("evolve", folder / "cut")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def states(index):
    return {row["path"]: row["state"] for row in index.rows("SELECT path, state FROM runs ORDER BY path")}


def test_it_finds_runs_at_any_depth_and_packed_ones_but_follows_no_link(folder, tmp_path):
    (folder / "ab" / "cd").mkdir(parents=True)
    (folder / "done").rename(folder / "ab" / "cd" / "done")
    pack(folder / "seen", folder / "seen.zip")
    outside = tmp_path / "outside"
    small_runs.cut_off("present", outside)
    (folder / "link").symlink_to(outside)
    (folder / "file.zip").write_bytes(b"no zip")
    (folder / ".hidden").mkdir()
    assert {run.path for run in look_around(folder)} == {"ab/cd/done", "seen", "seen.zip", "cut"}
    assert [run.path for run in look_around(folder / "seen")] == ["."]
    assert [run.path for run in look_around(folder / "seen.zip")] == ["."]
    with RunIndex(folder, "") as index:
        assert index.refresh()
        assert states(index) == {
            "ab/cd/done": "finished", "cut": "interrupted", "seen": "finished", "seen.zip": "finished",
        }  # fmt: skip
        assert index.path_of(run_id("ab/cd/done")) == folder / "ab" / "cd" / "done"
        assert index.path_of(run_id("link")) is None
        assert index.path_of("../outside") is None
        (folder / "seen").rename(tmp_path / "moved")
        (folder / "seen").symlink_to(tmp_path / "moved")
        assert index.path_of(run_id("seen")) is None  # a link since


def test_finished_runs_are_not_opened_and_others_only_once_a_commit(folder, monkeypatch):
    opened = []
    real = run_index.open_recording
    monkeypatch.setattr(run_index, "open_recording", lambda path: opened.append(path.name) or real(path))
    with RunIndex(folder, "") as index:
        index.refresh()
        index.refresh()
        assert opened == ["cut"]
        small_runs.go_on("evolve", folder / "cut")
        index.refresh()
        assert opened == ["cut"]
        assert states(index)["cut"] == "finished"
        shutil.rmtree(folder / "cut")
        index.refresh()
        assert "cut" not in states(index)
        assert index.rows("SELECT count(*) AS n FROM threads") == [{"n": 2}]


def test_a_short_time_lists_all_and_summarizes_later(folder):
    with RunIndex(folder, "") as index:
        assert not index.refresh(seconds=-1)
        assert set(states(index)) == {"cut", "done", "seen"}
        unknown = "SELECT path FROM runs WHERE known = 0"
        assert index.rows(unknown) == [{"path": "cut"}]
        assert index.refresh()
        assert index.rows(unknown) == []


def test_whether_somebody_writes_is_asked_each_time(folder):
    with RunIndex(folder, "") as index:
        index.refresh()
        own = OwnFolder(folder / "cut")
        index.refresh()
        assert states(index)["cut"] == "running"
        own.release()
        index.refresh()
        assert states(index)["cut"] == "interrupted"


def test_a_damaged_run_is_a_row_with_its_problem(folder):
    (folder / "done" / "COMMITTED.json").write_bytes(b"{")
    with RunIndex(folder, "") as index:
        index.refresh()
        problems = {row["path"]: row["problem"] for row in index.rows("SELECT path, problem FROM runs")}
    assert "cannot read COMMITTED.json" in problems["done"]
    assert problems["cut"] == problems["seen"] == ""


@pytest.mark.parametrize("content", [b"no database", b""])
def test_the_file_is_kept_and_made_again_where_it_is_damaged(folder, tmp_path, monkeypatch, content):
    file = tmp_path / "cache" / "runs.sqlite"
    with RunIndex(folder, file) as index:
        index.refresh()
    monkeypatch.setattr(run_index, "_read", lambda *_: pytest.fail("it is known already"))
    with RunIndex(folder, file) as index:
        index.refresh()
        assert set(states(index)) == {"cut", "done", "seen"}
    monkeypatch.undo()
    file.write_bytes(content)
    with RunIndex(folder, file) as index:
        index.refresh()
        assert set(states(index)) == {"cut", "done", "seen"}


def test_one_process_writes_the_file_and_others_make_theirs_in_memory(folder, tmp_path):
    file = tmp_path / "runs.sqlite"
    with RunIndex(folder, file) as first, RunIndex(folder, file) as second:
        first.refresh()
        second.refresh()
        assert states(first) == states(second)
    with sqlite3.connect(file) as table:
        assert table.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    table.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_none(folder, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with RunIndex(folder, tmp_path / "locked" / "runs.sqlite") as index:
        assert index.refresh()


def test_no_such_folder(tmp_path):
    with pytest.raises(InvalidArgumentError, match="folder: expected a folder of runs, or a run, got"):
        RunIndex(tmp_path / "nowhere")
