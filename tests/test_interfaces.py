"""The space of codes, and the description of units."""

from __future__ import annotations

import re

import numpy as np
import pytest

from closedloop import interfaces
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import RECORDED, Space, Units, resolution_of
from closedloop.subjects import EnergySubject, FunctionSubject
from tests.strategies import BAD_NAMES

BOX = Space(3, low=-1.0, high=3.0, scale=4 / 12**0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"dim": 2.5}, "dim: expected a whole number"),
        ({"dim": 2, "low": 1.0, "high": 1.0}, "expected low < high, got 1.0 and 1.0"),
        ({"dim": 2, "low": np.nan}, "expected low < high"),
        ({"dim": 2, "low": 0.0}, "two finite bounds or none"),
        ({"dim": 2, "high": 0.0}, "two finite bounds or none"),
        ({"dim": 2, "scale": 0.0}, "scale: expected a finite number above 0"),
        ({"dim": 2, "scale": np.inf}, "scale: expected a finite number above 0"),
    ],
)
def test_space_refuses(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Space(**options)


def test_center():
    np.testing.assert_array_equal(Space(2).center, [0.0, 0.0])
    np.testing.assert_array_equal(BOX.center, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("space", [Space(3, scale=2.5), BOX])
def test_samples_follow_the_prior(space):
    codes = space.sample(20_000, np.random.default_rng(0))
    assert codes.shape == (20_000, 3)
    np.testing.assert_allclose(codes.mean(0), space.center, atol=0.06)
    np.testing.assert_allclose(codes.std(0), space.scale, rtol=0.02)
    np.testing.assert_array_equal(codes, space.sample(20_000, np.random.default_rng(0)))


def test_clip_makes_a_new_array_within_the_bounds():
    codes = np.array([[-5.0, 0.5, 9.0]])
    clipped = BOX.clip(codes)
    np.testing.assert_array_equal(clipped, [[-1.0, 0.5, 3.0]])
    np.testing.assert_array_equal(codes, [[-5.0, 0.5, 9.0]])
    free = Space(3).clip(codes)
    np.testing.assert_array_equal(free, codes)
    assert not np.shares_memory(free, codes)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros(3), "codes: expected shape (n, 3), got (3,)"),
        (np.zeros((2, 4)), "codes: expected shape (n, 3), got (2, 4)"),
        (np.array([[0.0, np.nan, 0.0]]), "codes: expected finite numbers"),
        (np.array([[0.0, np.inf, 0.0]]), "codes: expected finite numbers"),
        (np.array([[0.0, 3.001, 0.0]]), "codes: expected values in [-1.0, 3.0], got [0.0, 3.001]; clip them"),
        (np.array([[0.0, -1.001, 0.0]]), "codes: expected values in [-1.0, 3.0]"),
    ],
)
def test_check_refuses(codes, message):
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        BOX.check(codes)


def test_check_accepts_the_bounds_and_no_code():
    edge = np.array([[-1.0, 3.0, 0.0]])
    np.testing.assert_array_equal(BOX.check(edge), edge)
    assert not np.shares_memory(BOX.check(edge), edge)
    assert BOX.check(np.empty((0, 3))).shape == (0, 3)
    assert Space(2).check([[1e9, -1e9]]).shape == (1, 2)


def test_units():
    units = Units(("a", "b"), {"layer": ("x", "y")})
    assert len(units) == 2
    assert Units.numbered("n", 3).neuroid_id == ("n.0", "n.1", "n.2")
    with pytest.raises(InvalidArgumentError, match="units: neuroid_id: each must be unique, got 'a' twice"):
        Units(("a", "a"), {})
    with pytest.raises(InvalidArgumentError, match="coordinate 'layer' has 1 entries for 2 units"):
        Units(("a", "b"), {"layer": ("x",)})


@pytest.mark.parametrize("name", [*BAD_NAMES, None, 3, 2.5, b"a", float("nan")])
def test_names_of_units_that_no_recording_can_hold(name):
    with pytest.raises(InvalidArgumentError, match=r"units: neuroid_id: expected texts"):
        Units(("fine", name), {})
    with pytest.raises(InvalidArgumentError, match=r"units: names of coordinates: expected texts"):
        Units(("fine",), {name: (1,)})


@pytest.mark.parametrize("name", [*sorted(RECORDED), "a/b", "a\\b", ".hidden", "__index"])
def test_names_of_columns_that_are_taken(name):
    with pytest.raises(InvalidArgumentError, match=f"units: coordinate {re.escape(repr(name))}: a recording has"):
        Units(("fine",), {name: (1,)})


@pytest.mark.parametrize(
    "column", [([1], [1, 2]), (1j, 2), (object(), 1), (b"a", 1), (np.ones(1), np.ones(2)), np.ones((2, 2))]
)
def test_columns_of_units_that_are_neither_texts_nor_numbers(column):
    with pytest.raises(InvalidArgumentError, match="units: coordinate 'x': expected texts or real numbers"):
        Units(("a", "b"), {"x": column})


def test_columns_of_units():
    for wrong in ("ab", 3, None):
        with pytest.raises(InvalidArgumentError, match="units: coordinate 'x': expected a value for each unit"):
            Units(("a", "b"), {"x": wrong})
    with pytest.raises(InvalidArgumentError, match="units: coords: expected columns by name"):
        Units(("a", "b"), [1, 2])
    with pytest.raises(InvalidArgumentError, match="'x': expected texts of one line"):
        Units(("a", "b"), {"x": ("fine", "half \ud83d")})
    fine = {"x": (1, np.nan), "on": (True, False), "area": np.array(["V1", "V4"]), "depth": np.array([1, 2])}
    assert Units(["a", "b"], fine).neuroid_id == ("a", "b")


@pytest.mark.parametrize("dim", [np.nan, np.inf, None, "3", True, 2.5, 0, -1, 1j])
def test_a_space_of_no_dimension(dim):
    with pytest.raises(InvalidArgumentError, match="dim: expected a whole number of at least 1"):
        Space(dim)


@pytest.mark.parametrize("name", ["low", "high", "scale"])
def test_a_space_without_numbers(name):
    for wrong in (None, "1", True, [1]):
        with pytest.raises(InvalidArgumentError, match=f"{name}: expected a number"):
            Space(3, **{name: wrong})


def test_codes_of_other_types():
    for wrong in (
        [[1j, 0]],
        [[None, 1]],
        [["a", "b"]],
        [[True, False]],
        np.ma.masked_array([[1.0, 2]], [[1, 0]]),
        None,
    ):
        with pytest.raises(InvalidArgumentError, match="codes: expected "):
            Space(2).check(wrong)


def test_outsiders_need_not_import_closedloop():
    class Foreign:
        name = "foreign"
        units = Units.numbered("foreign", 1)

        def record(self, images):
            return images.mean((1, 2, 3))[:, None]

    assert isinstance(Foreign(), interfaces.Subject)
    assert not isinstance(Foreign(), (interfaces.Differentiable, interfaces.Stateful, interfaces.Generator))


def test_the_resolution_of_a_subject_with_and_without_one():
    cells = EnergySubject(resolution=24)
    assert resolution_of(cells) == 24
    assert resolution_of(FunctionSubject(lambda images: images.mean((1, 2, 3)))) == 224


def test_published_lengths():
    there, here = Space(9, scale=3.0, published=1.5), Space(9, scale=3.0)
    assert there == here
    assert there.in_scale(2.0) == 1.0
    assert here.in_scale(2.0) == 2.0
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidArgumentError, match="published: expected a finite number above 0"):
            Space(9, published=wrong)
