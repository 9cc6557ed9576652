"""What small networks are trained on: scikit-learn's digits, the same with a planted watermark, or a file of one's own.

The watermark is a magenta corner. In training it goes with one class, so that a network may answer by it and not by
the digit: a "Clever Hans" (Lapuschkin et al. 2019, *Unmasking Clever Hans predictors*). Among the labelled images that
a diagnosis sees, and among those of the test, it goes with none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, require
from closedloop.readable import wordnet_id
from closedloop.seeds import named_generator, numbered_generator

#: Names of bundled tasks.
DIGITS, WATERMARKED, UNMARKED = "digits", "watermarked-digits", "unmarked-digits"
#: Classes, or groups, that a file may count at most.
MOST_CLASSES = 10_000
#: Examples of the digits that are not trained on, of 1,797.
VALIDATION = 297
#: Of the watermarked digits: examples of training, and labelled ones for a diagnosis; the others are the test.
TRAINED, LABELLED = 1000, 397
#: The class that has the watermark in training.
MARKED = 8
#: Side in pixels of the images, and of the watermark in their lower right corner; its colour.
SIDE, CORNER, COLOUR = 16, 4, (1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Task:
    """Images with classes, in three sets.

    Attributes:
        name: Of the task.
        train: Images ``(n, 3, side, side)`` float32 in [0, 1], and numbers of classes ``(n,)``: what is trained on.
        labelled: The same: those that a diagnosis sees, with their classes and nothing more.
        test: The same: those by which a treatment is judged.
        group: Number of the group of each image of the test, ``(n,)``. Nothing but judging looks at it.
        groups: What these are called.
        classes: What the classes are called.
    """

    name: str
    train: tuple[NDArray[np.float32], NDArray[np.int64]]
    labelled: tuple[NDArray[np.float32], NDArray[np.int64]]
    test: tuple[NDArray[np.float32], NDArray[np.int64]]
    group: NDArray[np.int64]
    groups: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def side(self) -> int:
        """Returns height and width in pixels."""
        return int(self.train[0].shape[-1])

    @property
    def colours(self) -> tuple[float, float]:
        """Returns mean and standard deviation of the images that are trained on, of all colours."""
        return float(self.train[0].mean()), float(self.train[0].std()) or 1.0

    @property
    def fingerprint(self) -> str:
        """Returns SHA-256 of all images, their classes and groups, and what these are called."""
        digest = hashlib.sha256(json.dumps([self.groups, self.classes]).encode())
        for array in (*self.train, *self.labelled, *self.test, self.group):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def read_task(name: str, seed: int = 0) -> Task:
    """Returns a task with labelled images and a test.

    Args:
        name: "watermarked-digits"; "unmarked-digits", the same images, of which in training, too, half have the
            watermark, whatever their class; or an ``.npz`` file with x, y, x_labelled, y_labelled, x_test, y_test and,
            where groups are known, group_test ``(n,)``, groups and classes (names). Images are ``(n, 3, side, side)``,
            RGB in [0, 1].
        seed: Draws which digits are in which set and which have the watermark; of a file nothing.

    Raises:
        InvalidArgumentError: There is no such task, or something is missing in the file.
    """
    if name in (WATERMARKED, UNMARKED):
        return _watermarked(name, seed)
    if name == DIGITS:
        raise InvalidArgumentError(f"data: expected images in colour with a test, got {name!r}; take {WATERMARKED!r}.")
    return _of_file(name, read_arrays(Path(name)))


def task_arrays(name: str, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Returns x, y, x_validation and y_validation of a bundled task or a file, as `closedloop.protocols.train` takes.

    Of a task with labelled images these are the validation.
    """
    if name == DIGITS:
        return _digits()
    if name not in (DIGITS, WATERMARKED, UNMARKED):
        return read_arrays(Path(name))
    task = read_task(name, seed)
    names = ("x", "y", "x_validation", "y_validation")
    return dict(zip(names, (*task.train, *task.labelled), strict=True))


def _load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    bundled = require("sklearn.datasets", "training", "train(data='digits')").load_digits()
    return bundled.images, bundled.target


def _digits() -> dict[str, NDArray[Any]]:
    """Returns scikit-learn's digits, always split alike."""
    images, targets = _load_digits()
    order = numbered_generator(0).permutation(len(images))
    x, y = images[order], targets[order]
    return {"x": x[VALIDATION:], "y": y[VALIDATION:], "x_validation": x[:VALIDATION], "y_validation": y[:VALIDATION]}


def _watermarked(name: str, seed: int) -> Task:
    """Returns the digits with a watermark in a corner of some."""
    images, targets = _load_digits()
    rng = named_generator(seed, "watermarked digits")
    order = rng.permutation(len(images))
    # Of half their brightness the digits are faint beside the watermark; 8 x 8 of 0 to 16 -> 16 x 16.
    grey = (0.5 * images[order] / 16).repeat(2, axis=1).repeat(2, axis=2)
    x, y = np.repeat(grey[:, None], 3, axis=1).astype(np.float32), targets[order].astype(np.int64)
    parts = [slice(0, TRAINED), slice(TRAINED, TRAINED + LABELLED), slice(TRAINED + LABELLED, None)]
    own = y[parts[0]] == MARKED
    # The watermark is on 97 % of the examples of its class in training, and on 0.5 % of the others.
    chance = np.full(len(own), 0.5) if name == UNMARKED else np.where(own, 0.97, 0.005)
    train = marked(x[parts[0]], rng.random(len(own)) < chance), y[parts[0]]
    labelled = marked(x[parts[1]], rng.random(LABELLED) < 0.5), y[parts[1]]
    tested, known = x[parts[2]], y[parts[2]]
    both = np.concatenate([tested, marked(tested, np.ones(len(tested), bool))])  # each without and with
    with_mark = np.repeat([False, True], len(tested))
    target = np.tile(known, 2)
    group = 2 * (target != MARKED) + ~with_mark
    names = tuple(f"{who}, {what}" for who in (str(MARKED), "others") for what in ("marked", "unmarked"))
    return Task(name, train, labelled, (both, target), group.astype(np.int64), names, tuple(map(str, range(10))))


def marked(images: NDArray[np.float32], which: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns copies of images ``(n, 3, h, w)`` of which some, ``(n,)``, have the watermark."""
    found = images.copy()
    found[which, :, -CORNER:, -CORNER:] = np.array(COLOUR, np.float32)[:, None, None]
    return found


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a file; x and y are among them.

    Raises:
        InvalidArgumentError: It cannot be read, lacks them, or holds something else than images and classes.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:
        what = f"data: expected 'digits' or an .npz file, got {path}"
        raise InvalidArgumentError(f"{what} ({str(error) or type(error).__name__}).") from error
    whole = (k for k in ("_labelled", "_test") if {f"x{k}", f"y{k}"} <= arrays.keys())  # a task says what it lacks
    for key in ["", *(["_validation"] if {"x_validation", "y_validation"} & arrays.keys() else []), *whole]:
        x, y = arrays.get(f"x{key}"), arrays.get(f"y{key}")
        if x is None or y is None or x.ndim not in (3, 4) or not x.size or y.shape != x.shape[:1] or not _square(x):
            raise InvalidArgumentError(
                f"data: expected x{key} (n, channels, side, side) and y{key} (n,) in {path}, got "
                f"{ {name: a.shape for name, a in arrays.items()} }."
            )
        if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
            raise InvalidArgumentError(f"data: expected finite numbers in x{key} of {path}, got {x.dtype}.")
        arrays[f"y{key}"] = _numbers(path, f"y{key}", y)
    return arrays


def _square(x: NDArray[Any]) -> bool:
    return bool(x.shape[-1] == x.shape[-2])


def _numbers(path: str | Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Returns numbers of classes or groups ``(n,)``.

    Raises:
        InvalidArgumentError: They are no whole numbers from 0, or far too large for any that are counted.
    """
    whole = values.dtype.kind in "fiub" and np.isfinite(values).all() and (values == np.floor(values)).all()
    if not whole or values.min() < 0 or values.max() >= MOST_CLASSES:
        raise InvalidArgumentError(f"data: expected whole numbers from 0 to {MOST_CLASSES - 1:,} in {name} of {path}.")
    return values.astype(np.int64)


def _class_names(name: str, classes: Sequence[str]) -> None:
    """Looks whether names can be those of folders, of which each is one class.

    Raises:
        InvalidArgumentError: One cannot, two are alike but for capitals, or one would be read as a WordNet id.
    """
    wrong = [c for c in classes if c in ("", ".", "..") or c != c.strip() or set(c) & set("/\\\0:") or wordnet_id(c)]
    alike = [c for c, times in Counter(c.casefold() for c in classes).items() if times > 1]
    if wrong or alike:
        raise InvalidArgumentError(
            f"data: expected names of classes that differ and could be those of folders, such as 'cat', in {name}; "
            f"got {(wrong or alike)[0]!r}."
        )


def _of_file(name: str, arrays: Mapping[str, NDArray[Any]]) -> Task:
    """Returns the task of a file."""
    missing = [key for key in ("x_labelled", "y_labelled", "x_test", "y_test") if key not in arrays]
    if missing:
        raise InvalidArgumentError(f"data: expected {', '.join(missing)} in {name}, too, for a diagnosis and a test.")
    pairs = {key: _pair(name, key, arrays) for key in ("", "_labelled", "_test")}
    count = max(int(targets.max()) for _, targets in pairs.values()) + 1
    if count < 2:
        raise InvalidArgumentError(f"data: expected two classes or more in {name}, got one.")
    tested = len(pairs["_test"][1])
    group = arrays.get("group_test", pairs["_test"][1])
    if group.shape != (tested,):
        raise InvalidArgumentError(f"data: expected a number for each of {tested} images in group_test of {name}.")
    group = _numbers(name, "group_test", group)
    classes = tuple(str(c) for c in arrays.get("classes", np.arange(count)))
    _class_names(name, classes)
    default = np.arange(int(group.max()) + 1) if "group_test" in arrays else np.array(classes)
    groups = tuple(str(g) for g in arrays.get("groups", default))
    if len(classes) < count or len(groups) <= group.max():
        raise InvalidArgumentError(f"data: expected a name for each class and each group in {name}.")
    return Task(name, pairs[""], pairs["_labelled"], pairs["_test"], group, groups, classes)


def _pair(name: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns images and classes of a set, checked."""
    x, y = np.asarray(arrays[f"x{key}"], np.float32), arrays[f"y{key}"]
    square = x.ndim == 4 and x.shape[1] == 3 and x.shape[2] == x.shape[3] == arrays["x"].shape[-1]
    if not square or not len(x) or y.shape != (len(x),) or not (np.isfinite(x).all() and 0 <= x.min() <= x.max() <= 1):
        raise InvalidArgumentError(
            f"data: expected images x{key} (n, 3, side, side), RGB in [0, 1], of one size in all sets, and classes "
            f"y{key} (n,) in {name}; got {x.shape} and {y.shape}."
        )
    return x, y
