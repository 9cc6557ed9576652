"""The door: images, responses and options from outside."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from closedloop.checks import (
    check_flag,
    check_generated,
    check_images,
    check_number,
    check_positive,
    check_responses,
    check_whole,
    check_within,
    read_whole,
    real_numbers,
    whole_number,
)
from closedloop.errors import GeneratorError, InvalidArgumentError, SubjectError
from closedloop.interfaces import Space

GOOD = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)


def with_pixel(value, dtype=np.float64):
    images = GOOD.astype(dtype)
    images[1, 2, 3, 4] = value
    return images


def test_good_images_pass_unchanged():
    assert check_images(GOOD) is GOOD
    double = check_images(GOOD.astype(np.float64))
    assert double.dtype == np.float32
    np.testing.assert_array_equal(double, GOOD)
    assert check_images(np.empty((0, 3, 4, 4))).shape == (0, 3, 4, 4)


def test_rounding_is_clipped_and_the_argument_is_not_changed():
    images = with_pixel(1 + 5e-5)
    assert check_images(images).max() == 1
    assert images.max() == 1 + 5e-5
    assert check_images(with_pixel(-5e-5)).min() == 0
    assert check_images(with_pixel(1 + 5e-5, np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GOOD[0], "images: expected shape (n, 3, h, w), got (3, 4, 5). Add a batch axis: images[None]."),
        (GOOD.transpose(0, 2, 3, 1), "got (2, 4, 5, 3). The colours come last here: images.transpose(0, 3, 1, 2)."),
        (GOOD[:, :1], "expected shape (n, 3, h, w), got (2, 1, 4, 5)"),
        (GOOD[..., :0], "expected shape (n, 3, h, w)"),
        ((GOOD * 255).astype(np.uint8), "got uint8; divide 8-bit images by 255"),
        (with_pixel(np.nan), "got NaN in image [1]"),
        (with_pixel(np.inf), "expected RGB in [0, 1]"),
        (with_pixel(200.0), "divide by 255"),
        (with_pixel(-1.5), "undo the normalization, or clip"),
        (with_pixel(1.001), "expected RGB in [0, 1]"),
        ([[1.0], [2.0, 3.0]], "expected an array, got list"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        check_images(images)


def test_resolution_and_name():
    square = np.zeros((1, 3, 4, 4), np.float32)
    assert check_images(square, resolution=4) is square
    with pytest.raises(InvalidArgumentError, match=r"photos: expected shape \(n, 3, 8, 8\).*resolution=8"):
        check_images(square, resolution=8, name="photos")


class Made:
    name = "made"
    space = Space(2)
    resolution = 4

    def __call__(self, codes):
        return np.full((len(codes), 3, 4, 4), 0.5, np.float32)


def test_generated():
    images = Made()(np.zeros((2, 2)))
    assert check_generated(images, 2, Made()) is images
    with pytest.raises(GeneratorError, match="generator 'made': expected 3 images for 3 codes, got 2"):
        check_generated(images, 3, Made())
    with pytest.raises(GeneratorError, match=r"generator 'made': expected RGB in \[0, 1\]"):
        check_generated(images * 4, 2, Made())


def test_good_responses():
    for shape in [(3, 2), (3, 2, 7), (0, 2)]:
        responses = np.zeros(shape, np.float32)
        checked = check_responses(responses, shape[0], 2, "s")
        assert checked.dtype == np.float32
        assert not np.shares_memory(checked, responses)
    assert check_responses([[1, 2]], 1, 2, "s").dtype == np.float64
    assert check_responses(np.array([[True]]), 1, 1, "s").dtype == np.float64
    assert np.isnan(check_responses([[np.nan, 1.0]], 1, 2, "s")).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (np.zeros((3, 1)), "expected responses of shape (3, 2) or (3, 2, time) for 3 images and 2 units, got (3, 1)"),
        (np.zeros(3), "got (3,)"),
        (np.zeros((3, 2, 1, 1)), "got (3, 2, 1, 1)"),
        ([["a", "b"]], "expected numbers, got <U1 from list"),
        (None, "expected numbers, got object from NoneType"),
        ([[1.0], [2.0, 3.0]], "expected an array, got list"),
        (np.full((3, 2), np.inf), "is infinite"),
        (np.full((3, 2), np.inf, np.float32), "is infinite"),
        (np.full((3, 2), -1.7e308), "is -1.7e+308, of which no mean can be taken"),
    ],
)
def test_bad_responses(responses, message):
    with pytest.raises(SubjectError, match="subject 's': .*" + re.escape(message)):
        check_responses(responses, 3, 2, "s")


TABLE = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (pd.DataFrame(TABLE).sort_values(0, ascending=False), "numbered 2, 1, 0 …; return it sorted"),
        (pd.DataFrame(TABLE, index=np.int8([0, 2, 1])), "numbered 0, 2, 1"),
        (xr.DataArray(TABLE.T, dims=("neuroid", "presentation")), "transpose them"),
        (xr.DataArray(TABLE, dims=("neuroid", "image")), "transpose them"),
        (xr.DataArray(np.zeros((3, 2, 2)), dims=("presentation", "time_bin", "neuroid")), "transpose them"),
        (xr.DataArray(np.zeros((3, 2, 2)), dims=("image", "time_bin", "cell")), "transpose them"),
    ],
)
def test_labels_in_another_order(responses, message):
    with pytest.raises(SubjectError, match="subject 's': .*" + re.escape(message)):
        check_responses(responses, 3, 2, "s")


@pytest.mark.parametrize(
    "responses",
    [
        pd.DataFrame(TABLE),
        pd.DataFrame(TABLE, index=[5, 3, 4]),
        pd.DataFrame(TABLE, index=["b", "c", "a"]),
        xr.DataArray(TABLE, dims=("presentation", "neuroid")),
        xr.DataArray(TABLE, dims=("image", "cell")),
    ],
)
def test_labels_that_say_no_other_order(responses):
    np.testing.assert_array_equal(check_responses(responses, 3, 2, "s"), TABLE)


def test_a_forgotten_unit_axis_is_named():
    with pytest.raises(SubjectError, match=r"Return responses\[:, None\] for a single unit"):
        check_responses(np.zeros(3), 3, 1, "s")


def test_a_tensor_with_its_graph_is_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(SubjectError, match=r"got Tensor .*detach"):
        check_responses(torch.ones(1, 1, requires_grad=True) * 2, 1, 1, "s")


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (lambda v: check_whole("n", v, 2), [2, np.int64(7)]),
        (lambda v: check_number("n", v, 0, 1), [0, 1, np.float32(0.5)]),
        (lambda v: check_number("n", v), [-1e9, 3]),
        (lambda v: check_positive("n", v), [1e-9, np.int8(3)]),
        (lambda v: check_within("n", v, 0.95), [1e-9, 0.5]),
        (lambda v: check_flag("n", v), [True, False, np.True_]),
    ],
)
def test_good_options_come_back(check, good):
    assert [check(value) for value in good] == good


@pytest.mark.parametrize(
    ("check", "bad", "message"),
    [
        (lambda v: check_whole("n", v, 2), [1, 2.0, "2", True, None], "n: expected a whole number of at least 2, got "),
        (lambda v: check_number("n", v, 0, 1), [1.1, np.nan, "half", True], "n: expected a finite number from 0 to 1"),
        (lambda v: check_number("n", v, 3), [2, np.inf, None], "n: expected a finite number of at least 3, got "),
        (lambda v: check_number("n", v), [np.nan, -np.inf, [1]], "n: expected a finite number, got "),
        (lambda v: check_positive("n", v), [0, -1, np.inf, np.nan, "1"], "n: expected a finite number above 0, got "),
        (lambda v: check_within("n", v, 0.95), [0, 1, np.nan, "0.5"], "n: expected a number between 0 and 1 such as "),
        (lambda v: check_flag("n", v), ["no", 0, 1, None], "n: expected True or False, got "),
        (lambda v: check_number("n", v, 0), [10**400], "n: expected a finite number of at least 0, got 10"),
        (lambda v: check_positive("n", v), [10**400], "n: expected a finite number above 0, got 10"),
    ],
)
def test_bad_options(check, bad, message):
    for value in bad:
        with pytest.raises(InvalidArgumentError, match=re.escape(message)):
            check(value)


def test_real_numbers():
    np.testing.assert_array_equal(real_numbers("x", [[1, np.nan], [True, 2.5]]), [[1, np.nan], [1, 2.5]])
    for wrong in ("a text", None, [1, None], [[1], [1, 2]], 1j):
        with pytest.raises(InvalidArgumentError, match=r"x: expected (numbers|an array), got "):
            real_numbers("x", wrong)
    with pytest.raises(InvalidArgumentError, match="x: expected finite numbers, NaN where one is missing, got an inf"):
        real_numbers("x", [1, np.inf])


@pytest.mark.parametrize("text", ["", "²", "1" * 19, "9" * 5000, "1.0", "--1", " 1", "٣²", "1e3"])
def test_digits_that_are_no_whole_number_one_means(text):
    assert whole_number(text) is None
    with pytest.raises(InvalidArgumentError, match="unit: expected a whole number of at most 18 digits, got "):
        read_whole("unit", text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-3", -3), ("9" * 18, 10**18 - 1), ("007", 7)])
def test_digits_are_read(text, number):
    assert whole_number(text) == read_whole("unit", text) == number
