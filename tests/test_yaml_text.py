"""YAML: each value has one meaning, and what is written is read as the same."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.yaml_text import read_yaml_text, yaml_text
from tests.strategies import counted_settings

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.from_regex(r"[-+]?[0-9_:.eE]{1,6}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab:-0. ", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", float("-inf")),
        ("12", 12),
        ("-3", -3),
        ("1_000", 1000),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2020-12-01", "2020-12-01"),
        ("2020-13-45", "2020-13-45"),
        ("0x10", "0x10"),
        ("true", True),
        ("no", False),
        ("~", None),
        ("", None),
        ("maybe", "maybe"),
    ],
)
def test_each_value_has_one_meaning(text, value):
    read = read_yaml_text(text, "file")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 1", r"'a' stands there twice \(line 3, column 1\)"),
        ("a: {b: 1, b: 2}", "'b' stands there twice"),
        ("? [1, 2]\n: 3", "a name of an entry is no text"),
        ("[" * 3000, "nested too deeply|could not|expected"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("9" * 5000, "Exceeds the limit"),
        ("a: &x [*x]", "more than 200000 values"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "\n".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdef", "bcdefg", strict=True)),
            "more than 200000 values",
        ),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("- 1\n---\n- 2", "another document"),
        ("\x00", "special characters"),
        ("a: 'b", "unexpected end of stream"),
        ("<<", "could not determine a constructor"),
    ],
)
def test_what_has_none_is_refused(text, message):
    with pytest.raises(InvalidArgumentError, match=f"^here: cannot read this YAML: .*({message})"):
        read_yaml_text(text, "here")


@given(VALUES)
def test_what_is_written_is_read_as_the_same(value):
    text = yaml_text({"entry": value})
    assert repr(read_yaml_text(text, "file")["entry"]) == repr(value)


def test_any_text_is_read_or_refused(counted, tally):
    @counted_settings(counted, full=20_000)
    @given(st.text(max_size=60) | st.text("[]{}:,&*!|>'\"-?<%@ \n0ab", max_size=60))
    def holds(text):
        tally("texts as YAML")
        with contextlib.suppress(InvalidArgumentError):
            read_yaml_text(text, "here")

    holds()


def test_files_of_before_are_read_as_the_same():
    """They were written by PyYAML itself."""
    content = {"sigma": 1e-05, "images": 300, "name": "1.5", "on": "yes", "seed": None, "list": [1, 2.5, {"a": True}]}
    assert read_yaml_text(yaml.safe_dump(content), "file") == content


@pytest.mark.long
def test_long_files_without_aliases_are_read():
    values = list(range(250_000))
    assert read_yaml_text("[" + ", ".join(map(str, values)) + "]", "file") == values
