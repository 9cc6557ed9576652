"""Labelled folders: three forms, and errors that count and name."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import write_png
from closedloop.images.labelled import read_labelled


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(folder / name, np.zeros((3, 4, 4), np.float32))
    return folder


def test_folders_named_by_class(tmp_path):
    found = read_labelled(put(tmp_path, "dog/b.png", "cat/x.png", "cat/a.png"))
    assert found.ids == ("cat/a.png", "cat/x.png", "dog/b.png")
    assert found.labels == ("cat", "cat", "dog")
    assert all(path.is_file() for path in found.paths)
    assert "3 images of 2 labels" in repr(found)
    assert found.every(2).ids == ("cat/a.png", "dog/b.png")


def test_files_named_by_wordnet_id(tmp_path):
    found = read_labelled(put(tmp_path, "n01440764_tench.png", "n01443537.png"))
    assert found.labels == ("n01440764", "n01443537")


def test_a_table(tmp_path):
    put(tmp_path, "x/b.png", "a.png", "unlisted.png")
    (tmp_path / "labels.csv").write_text("note, path ,label\n,x/b.png,dog\n,a.png, cat\n")
    found = read_labelled(tmp_path)
    assert (found.ids, found.labels) == (("a.png", "x/b.png"), ("cat", "dog"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,label\na.png,cat\nb.png,\nc.png,\n", "without a label, 2: b.png, c.png"),
        ("path,label\na.png,cat\ngone.png,cat\n", "not there, 1: gone.png"),
        ("path,label\n../a.png,cat\n", r"paths within the folder, got '\.\./a\.png'"),
        ("path,label\n/etc/passwd,cat\n", "paths within the folder"),
        ("path,label\nlabels.csv,cat\n", "no images, 1: labels.csv"),
        ("path,label\na.png,cat\na.png,dog\n", "twice, 1: a.png"),
        ("file,label\na.png,cat\n", r"expected columns path and label, separated by commas, got \['file', 'label'\]"),
        ("path,label\n", "a line for each image, got none"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, table, message):
    put(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(InvalidArgumentError, match=f"labelled: .*{message}"):
        read_labelled(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no image"),
        (("a.png",), "no WordNet id, 1: a.png"),
        (("n0144076x.png", "n01440764.png"), "no WordNet id, 1: n0144076x.png"),
        (("cat/a.png", "b.png"), "1 folder and, beside them, 1 image without a label"),
    ],
)
def test_folders_that_are_no_labelled_ones(tmp_path, names, message):
    with pytest.raises(InvalidArgumentError, match=f"labelled: .*{message}"):
        read_labelled(put(tmp_path, *names))


def test_empty_classes_are_counted_and_named(tmp_path):
    put(tmp_path, "cat/a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"folders without an image, 1: dog"):
        read_labelled(tmp_path)
    with pytest.raises(InvalidArgumentError, match="expected a folder of labelled images"):
        read_labelled(tmp_path / "gone")


def test_a_name_that_no_disk_holds_is_a_file_that_is_not_there(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(f"path,label\na.png,cat\n{'x' * 300}.png,dog\n")
    with pytest.raises(InvalidArgumentError, match=r"lists in labels.csv files that are not there, 1: x{80}…; put"):
        read_labelled(tmp_path)
