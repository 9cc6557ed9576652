"""Folders of photographs that are sorted by class."""

import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.images.classes import images_fingerprint, sorted_images


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_subfolders_are_classes(tmp_path):
    put(tmp_path, "b.png", "cat/1.png", "cat/1.jpg", "cat/2.png", "dog/deep/1.png", ".hidden/1.png", "dog/notes.txt")
    names, paths, classes = sorted_images(tmp_path)
    assert names == ("b", "cat/1.jpg", "cat/1.png", "cat/2")
    assert [p.name for p in paths] == ["b.png", "1.jpg", "1.png", "2.png"]
    assert classes == ("", "cat", "cat", "cat")


def test_a_wordnet_id_is_a_class(tmp_path):
    put(tmp_path, "n01440764_tench.jpg", "n01440764.jpg", "n014407641.jpg", "night0000.jpg", "fox/n01440764_1.jpg")
    assert sorted_images(tmp_path)[2] == ("n01440764", "", "n01440764", "", "fox")


def test_says_what_is_not_there(tmp_path):
    with pytest.raises(InvalidArgumentError, match="which is not a folder"):
        sorted_images(tmp_path / "nowhere")
    with pytest.raises(InvalidArgumentError, match="naturals: no image in"):
        sorted_images(tmp_path)


def test_the_fingerprint_is_that_of_names_and_contents(tmp_path):
    put(tmp_path, "a.png", "b.png")
    names, paths, _ = sorted_images(tmp_path)
    before = images_fingerprint(names, paths)
    assert before == images_fingerprint(*sorted_images(tmp_path)[:2])
    paths[0].write_bytes(b"another")
    assert images_fingerprint(names, paths) != before
