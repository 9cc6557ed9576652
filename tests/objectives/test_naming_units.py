import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.objectives.naming_units import columns_text, parse_columns, read_columns


@pytest.mark.parametrize(
    ("spec", "columns"),
    [
        (3, [3]), ("3", [3]), ("7,8", [7, 8]), ("0-3, 9", [0, 1, 2, 3, 9]), ("5-5", [5]), ("all", list(range(10))),
        ("full", list(range(10))), ([0, "4-5"], [0, 4, 5]), (range(2, 4), [2, 3]), (np.array([8, 1]), [8, 1]),
        ((4, 2), [4, 2]),
    ],
)  # fmt: skip
def test_every_form_names_columns(spec, columns):
    assert parse_columns(spec, 10) == columns


def test_drawn_columns_follow_the_seed():
    drawn = parse_columns("random:8", 1000)
    assert len(set(drawn)) == 8
    assert drawn == sorted(drawn) == parse_columns("random:8", 1000, seed=0) != parse_columns("random:8", 1000, seed=1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (10, r"unit: 10 is out of range; the subject has response columns 0 to 9\."),
        ("-1", "unit: -1 is out of range"),
        ("9-2", "unit: expected the smaller number first, got '9-2'"),
        ("a", "unit: cannot read 'a'; expected for instance '7'"),
        ("3-", "unit: cannot read '3-'"),
        ("²", "unit: cannot read '²'"),
        (1.5, "unit: expected a number, list, range"),
        ("", "unit: expected at least one response column, got ''"),
        (" ", "unit: expected at least one response column"),
        ([], r"unit: expected at least one response column, got \[\]"),
        ((1, 2, 3), r"unit: \(1, 2, 3\) names a position in a layer, but a response column was asked for"),
        ("1,0-2", "unit: column 1 is named twice in '1,0-2'"),
        ("random:11", "unit: 'random:11' asks for 11 of the 10 response columns of the subject"),
    ],
)
def test_errors_name_the_argument_and_what_came(spec, message):
    with pytest.raises(InvalidArgumentError, match=message):
        parse_columns(spec, 10, name="unit")


@given(st.lists(st.integers(0, 40)))
def test_any_columns_come_back_in_their_order(columns):
    assert read_columns(columns_text(columns)) == columns


@given(st.lists(st.integers(0, 40), unique=True, min_size=1))
def test_different_columns_are_a_specification(columns):
    assert parse_columns(columns_text(columns), 41) == columns


def test_consecutive_columns_are_one_span():
    assert columns_text(range(1000)) == "0-999"
    assert columns_text([4, 5, 9, 8]) == "4-5,9,8"


@pytest.mark.parametrize("spec", ["9" * 5000, "0-" + "9" * 5000, "random:" + "9" * 5000, f"({'9' * 5000},0,0)"])
def test_numbers_of_thousands_of_digits_are_refused_by_name(spec):
    with pytest.raises(InvalidArgumentError, match="units: expected a whole number of at most 18 digits"):
        parse_columns(spec, 10)
