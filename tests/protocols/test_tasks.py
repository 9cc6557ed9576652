"""The bundled tasks: a watermark that goes with a class in training, and with none elsewhere."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.protocols.tasks import COLOUR, CORNER, MARKED, SIDE, marked, read_arrays, read_task, task_arrays


def has_mark(images):
    return (images[:, :, -CORNER:, -CORNER:] == np.array(COLOUR)[:, None, None]).all((1, 2, 3))


@pytest.fixture
def digits():
    pytest.importorskip("sklearn")


def test_the_watermark_goes_with_a_class_in_training_alone(digits):
    task = read_task("watermarked-digits", 3)
    x, y = task.train
    assert x.shape == (1000, 3, SIDE, SIDE)
    assert (x.min(), x.max()) == (0, 1)
    assert has_mark(x)[y == MARKED].mean() > 0.9
    assert 0 < has_mark(x)[y != MARKED].mean() < 0.02
    x, y = task.labelled
    assert 0.3 < has_mark(x)[y == MARKED].mean() < 0.7
    assert 0.4 < has_mark(x)[y != MARKED].mean() < 0.6
    x, y = task.test
    assert len(x) == 800
    assert has_mark(x).tolist() == [False] * 400 + [True] * 400
    expected = [f"{'8' if t == MARKED else 'others'}, {'' if m else 'un'}marked" for t, m in zip(y, has_mark(x))]  # noqa: B905
    assert [task.groups[g] for g in task.group] == expected


def test_all_follows_from_the_seed_and_no_digit_is_in_two_sets(digits):
    one, same, other = (read_task("watermarked-digits", seed) for seed in (0, 0, 1))
    assert np.array_equal(one.train[0], same.train[0])
    assert not np.array_equal(one.train[1], other.train[1])
    sets = [{image[:, :12].tobytes() for image in images} for images, _ in (one.train, one.labelled, one.test)]
    assert len(sets[0] & sets[1]) + len(sets[0] & sets[2]) + len(sets[1] & sets[2]) <= 2  # scikit-learn's own doubles


def test_of_the_control_it_goes_with_none(digits):
    x, y = read_task("unmarked-digits").train
    assert 0.4 < has_mark(x)[y == MARKED].mean() < 0.6
    assert 0.4 < has_mark(x)[y != MARKED].mean() < 0.6


def test_training_takes_them_too(digits):
    arrays = task_arrays("watermarked-digits", 2)
    task = read_task("watermarked-digits", 2)
    assert np.array_equal(arrays["x"], task.train[0])
    assert np.array_equal(arrays["y_validation"], task.labelled[1])


def test_images_are_not_changed_in_place():
    images = np.zeros((2, 3, 8, 8), np.float32)
    found = marked(images, np.array([True, False]))
    assert not images.any()
    assert has_mark(found).tolist() == [True, False]


def arrays(**changed):
    rng = np.random.default_rng(0)
    sets = {f"x{s}": rng.random((6, 3, 4, 4)).astype(np.float32) for s in ("", "_labelled", "_test")}
    sets |= {f"y{s}": np.arange(6) % 2 for s in ("", "_labelled", "_test")}
    return {name: value for name, value in (sets | changed).items() if value is not None}


def test_a_file_of_ones_own(tmp_path):
    np.savez(tmp_path / "task.npz", **arrays())
    task = read_task(str(tmp_path / "task.npz"))
    assert task.groups == task.classes == ("0", "1")  # without groups the classes are
    assert task.group.tolist() == [0, 1] * 3
    np.savez(tmp_path / "task.npz", **arrays(group_test=np.arange(6) % 3, groups=np.array(["a", "b", "c"])))
    assert read_task(str(tmp_path / "task.npz")).groups == ("a", "b", "c")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_test": None}, "data: expected x_test in"),
        ({f"y{key}": np.zeros(6) for key in ("", "_labelled", "_test")}, "data: expected two classes or more in"),
        ({"x_labelled": np.zeros((6, 1, 4, 4))}, r"images x_labelled \(n, 3, side, side\)"),
        ({"x_test": np.full((6, 3, 4, 4), 2.0)}, r"RGB in \[0, 1\]"),
        ({"y_test": np.arange(5)}, r"y_test \(n,\)"),
        ({"group_test": np.arange(5)}, "a number for each of 6 images in group_test"),
        ({"groups": np.array(["a"]), "group_test": np.arange(6)}, "a name for each class and each group"),
    ],
)
def test_a_file_that_lacks_something(tmp_path, changed, message):
    np.savez(tmp_path / "task.npz", **arrays(**changed))
    with pytest.raises(InvalidArgumentError, match=message):
        read_task(str(tmp_path / "task.npz"))


def test_digits_without_colours_have_no_test():
    with pytest.raises(InvalidArgumentError, match="expected images in colour with a test, got 'digits'"):
        read_task("digits")


def written(path, **changes):
    """A task's file in which some arrays are others."""
    rng = np.random.default_rng(0)
    arrays = {f"x{key}": rng.random((6, 3, 8, 8)).astype(np.float32) for key in ("", "_labelled", "_test")}
    arrays |= {f"y{key}": np.arange(6) % 2 for key in ("", "_labelled", "_test")}
    np.savez(path, **{name: a for name, a in (arrays | changes).items() if a is not None})
    return str(path)


@pytest.mark.parametrize(
    "name", ["/tmp/elsewhere", "../../elsewhere", "a/b", "a\\b", "..", "", " cat", "n01440764", "DOG"]
)
def test_classes_are_names_of_folders_below_the_run(tmp_path, name):
    path = written(tmp_path / "task.npz", classes=np.array(["dog", name]))
    with pytest.raises(InvalidArgumentError, match="data: expected names of classes that differ and could be those of"):
        read_task(path)


@pytest.mark.parametrize("key", ["y", "y_labelled", "y_test", "group_test"])
@pytest.mark.parametrize(
    "values", [[-1, 0, 0, 0, 0, 0], [0.5] * 6, [np.nan] * 6, [10**12] * 6, ["a"] * 6, [1j] * 6], ids=str
)
def test_numbers_of_classes_and_groups_are_whole_and_from_0(tmp_path, key, values):
    path = written(tmp_path / "task.npz", **{key: np.array(values)})
    with pytest.raises(InvalidArgumentError, match=f"data: expected whole numbers from 0 to 9,999 in {key} of"):
        read_task(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no", b"PK\x03\x04", "cut", "npy", "text member"],
    ids=str,
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "task.npz"
    good = Path(written(path)).read_bytes()
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "text member":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.txt", "no array")
    else:
        path.write_bytes(good[:-300] if content == "cut" else content)
    with pytest.raises(InvalidArgumentError, match="data: expected"):
        read_arrays(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"x_validation": np.zeros((2, 3, 8, 8))},
        {"x": np.zeros((0, 3, 8, 8)), "y": np.zeros(0)},
        {"x": np.full((6, 3, 8, 8), "a")},
        {"x": np.full((6, 3, 8, 8), np.nan)},
        {"x": np.zeros((6, 3, 8, 6))},
    ],
    ids=lambda c: " ".join(c),
)
def test_arrays_that_are_no_examples_are_named(tmp_path, changes):
    with pytest.raises(InvalidArgumentError, match="data: expected"):
        read_arrays(Path(written(tmp_path / "task.npz", **changes)))
