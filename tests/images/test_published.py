"""MNIST and CIFAR-10 in the files in which they are published, a few made-up examples of them."""

import gzip
import struct

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.images.published import read_cifar10, read_mnist


def write_mnist(folder, n=12, packed=True, sign="-"):
    """Writes the four files of a set like MNIST; returns images and labels of the training set."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for part, count in (("train", n), ("t10k", 4)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        files = {
            f"{part}-images{sign}idx3-ubyte": struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes(),
            f"{part}-labels{sign}idx1-ubyte": struct.pack(">II", 0x801, count) + labels.tobytes(),
        }
        for name, content in files.items():
            (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
        made.append((images, labels))
    return made[0]


def write_cifar10(folder, n=4):
    """Writes the six files of a set like CIFAR-10, binary version; returns records of the first."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (n, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
        if name == "data_batch_1":
            first = records
    return first


@pytest.mark.parametrize(("packed", "place", "sign"), [(True, ".", "-"), (False, "MNIST/raw", "-"), (False, ".", ".")])
def test_mnist_is_read_where_it_lies(tmp_path, packed, place, sign):
    images, labels = write_mnist(tmp_path / place, packed=packed, sign=sign)
    found = read_mnist(tmp_path)
    np.testing.assert_array_equal(found.x[:, 0], images)
    np.testing.assert_array_equal(found.y, labels)
    assert found.x_test.shape == (4, 1, 28, 28)


def test_cifar10_is_read_colours_first(tmp_path):
    first = write_cifar10(tmp_path / "cifar-10-batches-bin")
    found = read_cifar10(tmp_path)
    assert found.x.shape == (20, 3, 32, 32)
    assert found.y_test.shape == (4,)
    np.testing.assert_array_equal(found.x[2, 1, 5], first[2, 1 + 1024 + 5 * 32 : 1 + 1024 + 6 * 32])  # green, row 5
    np.testing.assert_array_equal(found.y[:4], first[:, 0])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"the files of MNIST in .*, got none named train-images-idx3-ubyte"):
        read_mnist(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"got none named data_batch_1.bin\. They are not fetched"):
        read_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InvalidArgumentError, match="is the version for Python, whose pickles may run code"):
        read_cifar10(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03", "expected an IDX file of 3 dimensions"),
        ("train-images-idx3-ubyte", struct.pack(">IIII", 0x803, 2, 28, 28), "values in .*, got 0; fetch it again"),
        ("train-labels-idx1-ubyte", struct.pack(">II", 0x801, 1) + b"\1", "as many labels as images of train"),
        ("t10k-labels-idx1-ubyte", b"<html>not found", "expected an IDX file of 1 dimensions"),
    ],
)
def test_damaged_files_of_mnist_are_named(tmp_path, name, content, message):
    write_mnist(tmp_path, packed=False)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=message):
        read_mnist(tmp_path)


@pytest.mark.parametrize("damage", [lambda _: b"no", lambda good: good[:-9], lambda good: good[:14] + b"\xff" * 30])
def test_a_file_that_is_no_gzip_is_named(tmp_path, damage):
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(damage(gzip.compress(bytes(range(256)) * 9)))
    with pytest.raises(InvalidArgumentError, match="cannot read"):
        read_mnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"12", "records of 3073 bytes"), (b"", "got 0 bytes"), (b"\x0b" * 3073, "expected classes 0 to 9 in .*, got 11")],
)
def test_damaged_files_of_cifar10_are_named(tmp_path, content, message):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=message):
        read_cifar10(tmp_path)
