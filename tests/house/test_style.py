"""The house style that no linter checks."""

import ast
import functools
import re
import statistics
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("closedloop", "subjects", "generators", "protocols")
SOURCES = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]


class Call(NamedTuple):
    line: int
    name: str
    keywords: tuple[str | None, ...]


@functools.cache
def calls(path: Path) -> list[Call]:
    """Every call in a file, with the name that is called."""
    made = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    return [Call(n.lineno, ast.unparse(n.func), tuple(k.arg for k in n.keywords)) for n in made]


def functions(path: Path) -> list[tuple[str, int]]:
    """Names and numbers of code lines of a file's functions, docstrings, blanks and comments left out."""
    text = path.read_text().splitlines()
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = [x.strip() for x in text[body[0].lineno - 1 : node.end_lineno]] if body else []
            found.append((f"{path.name}:{node.name}", sum(bool(x) and not x.startswith("#") for x in lines)))
    return found


def test_functions_are_small():
    found = [f for path in SOURCES for f in functions(path)]
    assert not [f for f in found if f[1] > 80]
    assert statistics.median(n for _, n in found) <= 8


def test_files_are_small():
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in SOURCES}
    assert not {p: n for p, n in lengths.items() if n > 700}
    assert statistics.median(lengths.values()) <= 200


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: p.name)
def test_every_expected_error_names_its_message(path):
    for call in calls(path):
        assert call.name != "pytest.raises" or "match" in call.keywords, f"{path}:{call.line}"


def test_no_input_is_checked_by_assert():
    for path in SOURCES:
        if "testing" not in path.parts:
            assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)], path


def test_plain_append_is_never_used():
    assert not [p for p in SOURCES if re.search(r"append_dim\s*=", p.read_text())]


def test_pictures_are_opened_by_one_function_that_names_their_format():
    """Pillow by itself would decode whatever a file holds, and start other programs on some."""
    for path in [
        *SOURCES,
        *sorted(ROOT.glob("scripts/*.py")),
        *sorted(ROOT.glob("benchmarks/*.py")),
        *sorted(ROOT.glob("examples/*.py")),
    ]:
        for call in calls(path):
            if call.name.endswith(("Image.open", "imread")):
                assert path.name == "opening.py", f"{path}:{call.line}"
                assert "formats" in call.keywords, f"{path}:{call.line}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_streams_are_named(path):
    if path.name == "seeds.py" or "testing" in path.parts:  # a contract plays the user
        return
    bare = [c.line for c in calls(path) if re.search(r"\b(default_rng|RandomState|SeedSequence|PCG64)$", c.name)]
    assert not bare, f"{path}:{bare}: expected a stream of closedloop.seeds"


#: A function's docstring begins with what it does, or refers to where that stands.
VERB = re.compile(r"`?[A-Z][a-z]+s\b|Is |Does |Has |See ")


def without_a_verb(path: Path) -> list[str]:
    """Functions whose docstring does not begin with a verb; that of a property names what it is."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            said = ast.get_docstring(node)
            named = any("property" in ast.unparse(d) for d in node.decorator_list)
            if said and not named and not VERB.match(said):
                found.append(f"{path.name}:{node.lineno} {said.splitlines()[0]}")
    return found


# A command's docstring is its help, in the imperative.
@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_of_functions_begin_with_a_verb(room):
    paths = [p for p in SOURCES if p.is_relative_to(ROOT / room) and "cli" not in p.parts]
    assert not [line for path in paths for line in without_a_verb(path)]


def test_a_docstring_without_a_verb_is_found(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('def f():\n    """The sum."""\n\ndef g():\n    """Returns the sum."""\n')
    assert without_a_verb(path) == ["a.py:1 The sum."]


def test_code_is_not_laid_out_for_a_tool():
    assert not [p.name for p in SOURCES if re.search(r"fmt: *(skip|off)|(?<!\.)\bcast\(", p.read_text())]
