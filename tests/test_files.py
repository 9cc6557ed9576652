"""Files are as they were, or complete."""

import os

import pytest

from closedloop.files import replace_file, replace_files, synchronize


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


def test_synchronize_takes_files_folders_and_what_is_not_there(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path, tmp_path / "nothing"):
        synchronize(path)
