"""Settings: one definition from which checks, texts and types come."""

from __future__ import annotations

from pathlib import Path

import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.loop.settings import Settings, check_options, option, option_types, read_settings, settings


@settings
class Some:
    """Some numbers."""

    n: int = option(default=1, least=1, help="How many.")
    rate: float = option(default=0.5, unit="hertz", help="How fast.")
    kind: str = option(default="a", choices=("a", "b", "c"), help="Which.")
    on: bool = option(default=False, help="Whether.")
    where: Path | None = option(default=None, help="Where.")
    words: tuple[str, ...] = option(default=(), help="Some words.")
    name: str | None = option(default=None, help="A name.")

    def __post_init__(self) -> None:
        check_options(self)


def test_types_and_whether_none_is_allowed():
    assert option_types(Some) == {
        "n": (int, False),
        "rate": (float, False),
        "kind": (str, False),
        "on": (bool, False),
        "where": (Path, True),
        "words": (tuple[str, ...], False),
        "name": (str, True),
    }


def test_the_texts_become_the_docstring():
    assert "    rate: How fast." in str(Some.__doc__)
    assert Some.n == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n: expected a whole number of at least 1, got 0"),
        ({"rate": 0.0}, "rate: expected hertz above 0, got 0.0"),
        ({"rate": float("nan")}, "rate: expected hertz above 0, got nan"),
        ({"kind": "d"}, "kind: expected 'a', 'b' or 'c', got 'd'"),
        ({"on": 1}, "on: expected"),
        ({"m": 1}, "m: no such setting"),
        ({"words": 0.5}, "words: expected a text, or several in a list, got 0.5"),
        ({"words": None}, "words: expected a text, or several in a list, got None"),
        ({"words": ["a", True]}, r"words: expected a text, or several in a list, got \['a', True\]"),
        ({"words": {"a": 1}}, "words: expected a text, or several in a list, got {'a': 1}"),
        ({"name": 5}, "name: expected a text, got 5"),
        ({"name": ["a"]}, r"name: expected a text, got \['a'\]"),
    ],
)
def test_every_value_is_checked_by_its_definition(given, message):
    with pytest.raises(InvalidArgumentError, match=message):
        read_settings(Some, given)


def test_a_list_a_single_text_and_a_path_stand_for_texts():
    for told in (["a", "b"], ("a", "b"), [Path("a"), "b"]):
        assert read_settings(Some, {"words": told}).words == ("a", "b")
    for told in ("a", Path("a")):
        assert read_settings(Some, {"words": told, "name": told}).words == ("a",)
    assert read_settings(Some, {"words": [0, "10"]}).words == ("0", "10")
    assert read_settings(Some, {"words": 7}).words == ("7",)
    assert read_settings(Some, {"name": Path("a"), "where": Path("a")}) == Some(name="a", where=Path("a"))


def test_what_depends_on_another_setting_is_checked_too():
    with pytest.raises(InvalidArgumentError, match="interleave: expected references in each generation"):
        Settings(drift="divide", interleave=0)
