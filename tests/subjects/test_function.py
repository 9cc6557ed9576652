import functools

import numpy as np
import pandas as pd
import pytest
import torch

from closedloop.errors import InvalidArgumentError, SubjectError
from closedloop.interfaces import Subject, Units
from closedloop.subjects import FunctionSubject
from closedloop.testing import SubjectContract


def means(images: np.ndarray) -> np.ndarray:
    return images.mean((2, 3))


def images(n: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((n, 3, 8, 8), dtype=np.float32)


class TestFunction(SubjectContract):
    def make(self) -> FunctionSubject:
        return FunctionSubject(means, units=3)


class TestOverTime(SubjectContract):
    """Two units with a time axis, one of them always lost."""

    def make(self) -> FunctionSubject:
        def function(images: np.ndarray) -> np.ndarray:
            rate = images.mean((1, 2, 3))[:, None, None] * np.ones((2, 5))
            rate[:, 1] = np.nan
            return rate

        return FunctionSubject(function, units=["a", "b"])


def test_it_returns_what_the_function_returns():
    subject = FunctionSubject(means, units=3)
    assert isinstance(subject, Subject)
    assert np.array_equal(subject.record(images()), means(images()))


def test_units_by_number_name_or_description():
    assert FunctionSubject(means, 3).units.neuroid_id == ("means.0", "means.1", "means.2")
    assert FunctionSubject(means, np.int64(2)).units.neuroid_id == ("means.0", "means.1")
    assert FunctionSubject(means, ["r", "g", "b"]).units.neuroid_id == ("r", "g", "b")
    described = Units(("x",), {"area": ("V4",)})
    assert FunctionSubject(means, described).units is described


def test_names():
    assert FunctionSubject(means).name == "means"
    assert FunctionSubject(lambda images: images).name == "lambda"
    assert FunctionSubject(functools.partial(means)).name == "partial"
    assert FunctionSubject(means, name="rig").units.neuroid_id == ("rig.0",)


@pytest.mark.parametrize("wrap", [np.asarray, list, torch.from_numpy, lambda x: x.astype(int)])
def test_a_number_for_each_image_is_a_single_unit(wrap):
    recorded = FunctionSubject(lambda x: wrap(10 * x.mean((1, 2, 3)))).record(images())
    assert recorded.shape == (4, 1)
    assert np.issubdtype(recorded.dtype, np.floating)
    np.testing.assert_allclose(recorded[:, 0], 10 * images().mean((1, 2, 3)), atol=1)


def test_a_function_may_overwrite_its_images():
    def overwriting(images: np.ndarray) -> np.ndarray:
        images -= images.mean()
        return images.std((1, 2, 3))

    shown = images()
    FunctionSubject(overwriting).record(shown)
    assert np.array_equal(shown, images())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: x.mean((2, 3)), r"expected responses of shape \(4, 2\) or \(4, 2, time\) .* got \(4, 3\)"),
        (lambda x: x.mean((1, 2, 3)), r"expected responses of shape .* got \(4,\)"),
        (lambda x: [[1, 2], [3]], "expected an array"),
        (lambda x: None, "expected numbers, got object from NoneType"),
        (lambda x: np.full((4, 2), np.inf), ".* is infinite"),
        (lambda x: [["a", "b"]] * 4, "expected numbers, got"),
    ],
)
def test_what_is_not_a_response(returned, message):
    with pytest.raises(SubjectError, match=f"subject 'eye': {message}"):
        FunctionSubject(returned, 2, "eye").record(images())


def test_rows_in_another_order_of_a_single_unit():
    def sorting(x):
        return pd.Series(x.mean((1, 2, 3))).sort_values()

    with pytest.raises(SubjectError, match=r"a row for each image in their order.*\.sort_index\(\)"):
        FunctionSubject(sorting).record(images()[np.argsort(-images().mean((1, 2, 3)))])


def test_rows_of_different_length_of_a_single_unit():
    with pytest.raises(SubjectError, match="expected an array"):
        FunctionSubject(lambda x: [[1], [2, 3], [4], [5]]).record(images())


@pytest.mark.parametrize("units", [0, -1, True, 1.5, "abc", [], ["a", 1], None])
def test_wrong_units(units):
    with pytest.raises(InvalidArgumentError, match="units: expected a number of at least 1, or names, got"):
        FunctionSubject(means, units)


def test_what_is_not_a_function():
    with pytest.raises(InvalidArgumentError, match="function: expected a callable on images, got list"):
        FunctionSubject([1, 2])
    with pytest.raises(InvalidArgumentError, match="neuroid_id: each must be unique"):
        FunctionSubject(means, ["a", "a"])


class TestOfGreyMovies(SubjectContract):
    def make(self):
        return FunctionSubject(lambda movies: movies[:, -1].mean((1, 2, 3)), channels=1, frames=4, rate_hz=30)


@pytest.mark.parametrize("lost", [[True] * 3, [False, True, False]])
def test_masked_responses_of_one_unit_are_lost(lost):
    subject = FunctionSubject(lambda images: np.ma.masked_array(np.full(len(images), -999.0), mask=lost))
    answered = subject.record(np.zeros((3, 3, 8, 8), np.float32))
    assert np.isnan(answered[:, 0]).tolist() == lost


def test_labels_in_another_order_are_refused():
    pandas, xarray = pytest.importorskip("pandas"), pytest.importorskip("xarray")
    images = np.zeros((2, 3, 8, 8), np.float32)
    table = FunctionSubject(lambda _: pandas.DataFrame({"b": [0.0, 0.0], "a": [1.0, 1.0]}), units=["a", "b"])
    with pytest.raises(SubjectError, match="expected a column for each unit in the order"):
        table.record(images)
    turned = FunctionSubject(lambda _: xarray.DataArray(np.eye(2), dims=["neuroid", "presentation"]), units=2)
    with pytest.raises(SubjectError, match=r"expected axes \(presentation, neuroid"):
        turned.record(images)
