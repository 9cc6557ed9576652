"""Folders and zip files are read by the same words."""

import zipfile

import pytest

from closedloop.recording.places import is_packed, on_disk, root_of, sizes


@pytest.fixture(params=["folder", "zip"])
def root(request, tmp_path):
    """A run with two files; its top."""
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "a.txt").write_text("first")
    (folder / "images" / "b.txt").write_text("ü")
    if request.param == "folder":
        return root_of(folder)
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for name in ("a.txt", "images/b.txt"):
            archive.write(folder / name, name)
    return root_of(tmp_path / "run.zip")


def test_files_and_sizes(root):
    assert (root / "a.txt").read_text(encoding="utf-8") == "first"
    assert sizes(root) == {"a.txt": 5}
    assert sizes(root / "images") == {"b.txt": 2}
    assert sizes(root / "nothing") == {}
    assert not (root / "nothing").exists()


def test_what_is_packed_is_on_the_disk_while_it_is_used(root):
    with on_disk(root / "images") as folder:
        assert [p.name for p in folder.iterdir()] == ["b.txt"]
    with on_disk(root / "a.txt") as file:
        assert file.read_bytes() == b"first"


def test_other_files_are_not_packed_runs(tmp_path):
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "text.zip").write_text("no zip file")
    assert not is_packed(tmp_path / "folder.zip")
    assert not is_packed(tmp_path / "nowhere.zip")
    with pytest.raises(OSError, match=r"text\.zip: File is not a zip file"):
        root_of(tmp_path / "text.zip")
