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
#: A function's docstring begins with what it does, or refers to where that stands.
VERB = re.compile(r"`?[A-Z][a-z]+s\b|Is |Does |Has |See ")
#: What a module constant is named, and what makes one that says by its kind what it is.
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
KINDS = ("Command", "RunProtocol", "TypeVar", "ParamSpec", "logging.getLogger")
SOURCES = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]


class Call(NamedTuple):
    line: int
    name: str
    keywords: tuple[str | None, ...]


class Facts(NamedTuple):
    """What tests ask of a file: all of it is read at once, and no tree is kept, which would take memory and time.

    Attributes:
        calls: Every call, with the name that is called.
        functions: Names and numbers of code lines of functions, docstrings, blanks and comments left out.
        without_a_verb: Functions whose docstring does not begin with a verb; that of a property names what it is.
        asserts: Lines with an assert.
        unsaid: Module constants without a line ``#: …`` above that says what they are.
    """

    calls: list[Call]
    functions: list[tuple[str, int]]
    without_a_verb: list[str]
    asserts: list[int]
    unsaid: list[str]


@functools.cache
def facts(path: Path) -> Facts:
    found, lines = Facts([], [], [], [], []), path.read_text().splitlines()
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            found.calls.append(Call(node.lineno, name_of(node.func), tuple(k.arg for k in node.keywords)))
        elif isinstance(node, ast.Assert):
            found.asserts.append(node.lineno)
        elif isinstance(node, ast.Module):
            made = [(one.lineno, constants(one)) for one in node.body]
            unsaid = [e for e in made if e[1] and not lines[e[0] - 2].startswith("#: ")]
            found.unsaid.extend(f"{path.name}:{line} {', '.join(names)}" for line, names in unsaid)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            said = ast.get_docstring(node)
            body = node.body[1:] if said else node.body
            code = [x.strip() for x in lines[body[0].lineno - 1 : node.end_lineno]] if body else []
            found.functions.append((f"{path.name}:{node.name}", sum(bool(x) and not x.startswith("#") for x in code)))
            named = any("property" in name_of(d) for d in node.decorator_list)
            if said and not named and not VERB.match(said):
                found.without_a_verb.append(f"{path.name}:{node.lineno} {said.splitlines()[0]}")
    return found


def constants(node: ast.stmt) -> list[str]:
    """The module constants that a statement makes; none of the kinds that need no words."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)):
        return []
    if isinstance(node.value, ast.Call) and name_of(node.value.func) in KINDS:
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    named = [e for target in targets for e in getattr(target, "elts", [target]) if isinstance(e, ast.Name)]
    return [e.id for e in named if CONSTANT.fullmatch(e.id)]


def name_of(node: ast.expr) -> str:
    """What stands there, such as ``np.random.default_rng``."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


def test_functions_are_small():
    found = [f for path in SOURCES for f in facts(path).functions]
    assert not [f for f in found if f[1] > 80]
    assert statistics.median(n for _, n in found) <= 8


def test_files_are_small():
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in SOURCES}
    assert not {p: n for p, n in lengths.items() if n > 700}
    assert statistics.median(lengths.values()) <= 200


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: p.name)
def test_every_expected_error_names_its_message(path):
    for call in facts(path).calls:
        assert call.name != "pytest.raises" or "match" in call.keywords, f"{path}:{call.line}"


def test_no_input_is_checked_by_assert():
    for path in SOURCES:
        if "testing" not in path.parts:
            assert not facts(path).asserts, path


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
        for call in facts(path).calls:
            if call.name.endswith(("Image.open", "imread")):
                assert path.name == "opening.py", f"{path}:{call.line}"
                assert "formats" in call.keywords, f"{path}:{call.line}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_streams_are_named(path):
    if path.name == "seeds.py" or "testing" in path.parts:  # a contract plays the user
        return
    bare = [c.line for c in facts(path).calls if re.search(r"\b(default_rng|RandomState|SeedSequence|PCG64)$", c.name)]
    assert not bare, f"{path}:{bare}: expected a stream of closedloop.seeds"


# A command's docstring is its help, in the imperative.
@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_of_functions_begin_with_a_verb(room):
    paths = [p for p in SOURCES if p.is_relative_to(ROOT / room) and "cli" not in p.parts]
    assert not [line for path in paths for line in facts(path).without_a_verb]


def test_a_docstring_without_a_verb_is_found(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('def f():\n    """The sum."""\n\ndef g():\n    """Returns the sum."""\n')
    assert facts(path).without_a_verb == ["a.py:1 The sum."]


def test_module_constants_say_what_they_are():
    """A number, a table or a text at the top of a file has a line ``#: …`` above, with its unit and its source."""
    assert not [f"{path.parent.name}/{line}" for path in SOURCES for line in facts(path).unsaid]


def test_a_module_constant_without_words_is_found(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        'T = TypeVar("T")\n#: Seconds.\nA_S = 1.0\nA = 1\n# Words.\n_B, C = 1, 2\n\nD: int = 3\ne = E.F = 4\n'
    )
    assert facts(path).unsaid == ["a.py:4 A", "a.py:6 _B, C", "a.py:8 D"]


def test_code_is_not_laid_out_for_a_tool():
    assert not [p.name for p in SOURCES if re.search(r"fmt: *(skip|off)|(?<!\.)\bcast\(", p.read_text())]


def texts_by_name(node: ast.ClassDef | ast.FunctionDef) -> list[tuple[str, str]]:
    """The texts that a class of settings, or a signature, has as defaults, each with its name."""
    if isinstance(node, ast.ClassDef):
        entries = [e for e in node.body if isinstance(e, ast.AnnAssign) and isinstance(e.value, ast.Call)]
        pairs = [(e.target.id, k.value) for e in entries for k in e.value.keywords if k.arg == "default"]
    else:
        taken = node.args.posonlyargs + node.args.args
        pairs = [(a.arg, d) for a, d in zip(taken[::-1], node.args.defaults[::-1], strict=False)]
        pairs += [(a.arg, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d]
    return [
        (name, d.value) for name, d in pairs if isinstance(d, ast.Constant) and isinstance(d.value, str) and d.value
    ]


def retyped(definitions: list[ast.AST], signatures: list[ast.AST]) -> list[str]:
    """Texts that stand as a default in a signature and in the option of that name."""
    classes = [n for n in definitions if isinstance(n, ast.ClassDef)]
    made = [n for n in classes if "settings" in map(ast.unparse, n.decorator_list)]
    known = {pair for node in made for pair in texts_by_name(node)}
    called = [n for n in signatures if isinstance(n, ast.FunctionDef)]
    return [f"{n.name}({name}={text!r})" for n in called for name, text in texts_by_name(n) if (name, text) in known]


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def nodes(paths: list[Path]) -> list[ast.AST]:
    return [node for path in paths for node in nodes_of(path)]


def test_no_default_of_an_option_is_typed_again():
    rooms = [*(ROOT / "protocols").rglob("*.py"), *(ROOT / "closedloop" / "loop").rglob("*.py")]
    assert retyped(nodes(SOURCES), nodes(rooms)) == []


def test_a_default_that_is_typed_again_is_found():
    made = "@settings\nclass A:\n    keep: str = option(default='best', help='.')\n"
    again = "def f(x, keep='best'): ...\ndef g(*, keep='all'): ...\ndef h(keep=A.keep): ..."
    assert retyped(list(ast.walk(ast.parse(made))), list(ast.walk(ast.parse(again)))) == ["f(keep='best')"]
