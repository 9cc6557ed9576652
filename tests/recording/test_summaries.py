"""SUMMARY.json: part of the last commit, under its checksums, and read without opening a store."""

from __future__ import annotations

import json

import pytest

from closedloop.errors import RecordingError
from closedloop.recording.packing import pack
from closedloop.recording.places import root_of
from closedloop.recording.reader import check_kept, read_kept, read_pointer
from closedloop.recording.summaries import read_summary, summary_bytes
from tests import small_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary") / "run"
    small_runs.run("evolve", folder)
    return folder


def summary(folder):
    return read_summary(root_of(folder), read_pointer(folder))


def test_a_finished_run_has_one_that_its_checksums_know(run):
    found = summary(run)
    assert [t["thread"] for t in found["threads"]] == ["cells", "pixels"]
    assert read_kept(run, "SUMMARY.json") == summary_bytes({k: v for k, v in found.items() if k != "form"})
    check_kept(run)
    assert summary(pack(run, run.with_name("packed.zip"))) == found


def test_a_run_under_way_has_none(tmp_path):
    assert summary(small_runs.cut_off("evolve", tmp_path / "run")) is None


def test_one_that_was_changed_or_lost_is_an_error(tmp_path):
    folder = tmp_path / "run"
    small_runs.run("evolve", folder)
    file = folder / "SUMMARY.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"cells", b"sells"))
    with pytest.raises(RecordingError, match=r"SUMMARY.json is damaged \(its checksum is not the recorded one\)"):
        summary(folder)
    file.unlink()
    with pytest.raises(RecordingError, match=r"cannot read SUMMARY.json .*; restore it from a copy"):
        summary(folder)


def test_numbers_that_are_none_are_null_and_a_newer_form_is_not_read(tmp_path, monkeypatch):
    assert json.loads(summary_bytes({"a": float("nan"), "b": [float("inf"), 1.5]})) == {
        "form": 1,
        "a": None,
        "b": [None, 1.5],
    }
    monkeypatch.setattr("closedloop.recording.summaries.FORM", 2)
    folder = tmp_path / "run"
    small_runs.run("present", folder)
    assert summary(folder)["threads"] == []
    monkeypatch.setattr("closedloop.recording.summaries.FORM", 1)
    assert summary(folder) is None
