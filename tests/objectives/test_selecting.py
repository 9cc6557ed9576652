import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.objectives.selecting import columns_text, parse_columns


@pytest.mark.parametrize(
    ("text", "columns"), [("292", [292]), ("7,8", [7, 8]), ("0-3, 9", [0, 1, 2, 3, 9]), ("5-5", [5]), ("", [])]
)
def test_reads_numbers_and_spans(text, columns):
    assert parse_columns(text) == columns


@pytest.mark.parametrize("text", ["a", "-3", "3-", "9-2", "1,,2", "1.5", " ", "²"])
def test_names_the_argument_and_what_came(text):
    with pytest.raises(InvalidArgumentError, match="unit: expected numbers such as 292, 7,8 or 0-9, got"):
        parse_columns(text)


@given(st.lists(st.integers(0, 40)))
def test_any_columns_come_back_in_their_order(columns):
    assert parse_columns(columns_text(columns)) == columns


def test_consecutive_columns_are_one_span():
    assert columns_text(range(1000)) == "0-999"
    assert columns_text([4, 5, 9, 8]) == "4-5,9,8"
