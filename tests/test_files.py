"""Files are as they were, or complete."""

import os

import pytest

from closedloop.files import replace_file, synchronize


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


def test_synchronize_takes_files_folders_and_what_is_not_there(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path, tmp_path / "nothing"):
        synchronize(path)
