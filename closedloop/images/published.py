"""Reads MNIST and CIFAR-10 from the files in which they are published, for those who have them; nothing is fetched.

MNIST: LeCun, Cortes & Burges, IDX files, packed by gzip or not. CIFAR-10: Krizhevsky 2009, the binary version (the one
for Python holds pickles, which may run code, and is not read).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError
from closedloop.signatures import at_door

#: Where the files of each set may lie below the folder that is named.
_MNIST_PLACES, _CIFAR_PLACES = (".", "mnist", "MNIST/raw"), (".", "cifar-10-batches-bin", "cifar10")
#: Bytes of a record of CIFAR-10: its label, and 32 x 32 pixels of red, of green, and of blue.
_RECORD = 1 + 3 * 32 * 32
#: What bytes an IDX file of images and one of labels begin with: unsigned bytes, in three dimensions and in one.
_IMAGES, _LABELS = 0x0803, 0x0801


class LabelledArrays(NamedTuple):
    """A published set.

    Attributes:
        x: Images of the training set, ``(n, channels, side, side)`` 8-bit.
        y: Their classes, ``(n,)``.
        x_test: Images of the test set.
        y_test: Their classes.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]


@at_door
def read_mnist(folder: str | Path) -> LabelledArrays:
    """Reads MNIST, or another set in its format such as Fashion-MNIST.

    Args:
        folder: Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``, each as it is or packed as ``.gz``; also in ``mnist`` or ``MNIST/raw`` below.

    Raises:
        InvalidArgumentError: A file is missing, or is none of these.
    """
    found: list[Any] = []
    for part in ("train", "t10k"):
        images = _idx(_file(folder, _MNIST_PLACES, _names(f"{part}-images", "idx3"), "MNIST"), _IMAGES)
        labels = _idx(_file(folder, _MNIST_PLACES, _names(f"{part}-labels", "idx1"), "MNIST"), _LABELS)
        if len(images) != len(labels):
            raise InvalidArgumentError(
                f"folder: expected as many labels as images of {part} in {folder}, got {len(labels)} and {len(images)}."
            )
        found += [images[:, None], labels.astype(np.int64)]
    return LabelledArrays(*found)


def _names(part: str, kind: str) -> list[str]:
    """Returns the names that a file goes by."""
    return [f"{part}{sign}{kind}-ubyte{ending}" for sign in "-." for ending in ("", ".gz")]


@at_door
def read_cifar10(folder: str | Path) -> LabelledArrays:
    """Reads the binary version of CIFAR-10.

    Args:
        folder: Holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``; also in
            ``cifar-10-batches-bin`` or ``cifar10`` below.

    Raises:
        InvalidArgumentError: A file is missing, or is none of these.
    """
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    parts = [_records(_file(folder, _CIFAR_PLACES, [name], "CIFAR-10, binary version")) for name in names]
    images, labels = (np.concatenate([part[i] for part in parts[:-1]]) for i in range(2))
    return LabelledArrays(images, labels.astype(np.int64), parts[-1][0], parts[-1][1].astype(np.int64))


def _file(folder: str | Path, places: tuple[str, ...], names: list[str], what: str) -> Path:
    """Returns the file that goes by one of some names.

    Raises:
        InvalidArgumentError: There is none.
    """
    known = [Path(folder) / place / name for place in places for name in names]
    for path in known:
        if path.is_file():
            return path
    older = Path(folder) / "cifar-10-batches-py"
    cure = f"; {older} is the version for Python, whose pickles may run code" if older.is_dir() else ""
    raise InvalidArgumentError(
        f"folder: expected the files of {what} in {folder}, got none named {names[0]}{cure}. They are not fetched: put "
        "them there, or name their folder."
    )


def _idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Reads an IDX file: four bytes that say type and dimensions, their lengths, then the values.

    Raises:
        InvalidArgumentError: It is none, of another sort, or cut short.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidArgumentError(f"folder: cannot read {path} ({error}).") from error
    dims = magic & 0xFF
    head = np.frombuffer(content[: 4 * (1 + dims)], ">u4")
    if len(head) < 1 + dims or head[0] != magic:
        raise InvalidArgumentError(f"folder: expected an IDX file of {dims} dimensions of bytes, got {path}.")
    shape = tuple(int(n) for n in head[1:])
    values = np.frombuffer(content, np.uint8, offset=4 * (1 + dims))
    if values.size != np.prod(shape) or 0 in shape:
        raise InvalidArgumentError(f"folder: expected {shape} values in {path}, got {values.size}; fetch it again.")
    return values.reshape(shape)


def _records(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Reads images ``(n, 3, 32, 32)`` and labels of a file of CIFAR-10.

    Raises:
        InvalidArgumentError: It is none, or cut short.
    """
    values = np.fromfile(path, np.uint8)
    if not values.size or values.size % _RECORD:
        raise InvalidArgumentError(
            f"folder: expected records of {_RECORD} bytes in {path}, got {values.size} bytes; fetch it again."
        )
    records = values.reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise InvalidArgumentError(f"folder: expected classes 0 to 9 in {path}, got {records[:, 0].max()}.")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
