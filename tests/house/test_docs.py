"""What README and the documents say can be typed: code parses, commands and options exist, links lead somewhere."""

import ast
import builtins
import itertools
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import closedloop
from closedloop import figures, parse_objective, protocols
from closedloop.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]


def fenced(text):
    """Kind and text of each fenced block, wherever it is indented."""
    for indent, kind, body in re.findall(r"^( *)```(\S*)(?: \S+)?\n(.*?)^ *```", text, flags=re.S | re.M):
        yield kind, re.sub(rf"^{indent}", "", body, flags=re.M)


def blocks(text, *kinds):
    """The fenced blocks of some kinds."""
    return [body for kind, body in fenced(text) if kind in kinds]


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_python(page):
    for block in blocks(page.read_text(), "python", "{code-cell}"):
        ast.parse(re.sub(r"^:tags:.*\n", "", block))


@pytest.fixture(scope="module")
def commands():
    """Of each command its options."""
    sys.path.insert(0, str(ROOT / "docs" / "_site"))
    try:
        from commands import commands_of
    finally:
        sys.path.pop(0)
    return {name: {n for o in options for n in [*o.opts, *o.secondary_opts]} for name, _, options in commands_of(app)}


#: Kinds of blocks whose lines are typed into a shell.
SHELL = ("bash", "console", "sh")


def shell_lines(block):
    """The words of each call in a block of a shell, without comments; variables that are set stand first."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split = True
        parts = itertools.groupby(lexer, lambda word: not word.strip(";|&"))
        yield from (list(words) for between, words in parts if not between)


def command_lines(text):
    """Each call of the program in blocks of a shell."""
    for block in blocks(text, *SHELL):
        for words in shell_lines(block):
            own = list(itertools.dropwhile(lambda word: re.match(r"\w+=", word), words))
            if own[:1] == ["closedloop"]:
                yield own[1:]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page, commands):
    for words in command_lines(page.read_text()):
        if words[0] in ("--version", "--help"):
            continue
        assert words[0] in commands, words
        given = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert given <= commands[words[0]] | {"--help", "--debug"}, (words, given - commands[words[0]])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_objectives_can_be_read(page):
    for words in command_lines(page.read_text()):
        for option, text in itertools.pairwise(words):
            if option == "--objective":
                parse_objective(text)


def test_a_command_that_is_gone_would_be_found(commands):
    text = "```bash\nclosedloop evolve --unit 7 --colour red  # no such option\nclosedloop paint\n```"
    said = list(command_lines(text))
    assert said == [["evolve", "--unit", "7", "--colour", "red"], ["paint"]]
    assert "--colour" not in commands["evolve"]
    assert "--unit" in commands["evolve"]


def made_and_lacking(code):
    """Names that a piece of Python makes, and those that it reads and nowhere makes."""
    made, read = set(dir(builtins)), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    return made, read - made


def test_what_is_read_and_not_made():
    code = "from a import b as c, d\nimport e.f\nx = g(c, d, e, [y for y in x], lambda z: z, len)"
    assert made_and_lacking(code)[1] == {"g"}


#: What is imported wherever it is used; other names in small letters are what a reader or an earlier page made.
TO_IMPORT = {"closedloop", "np", "torch", "xr", "plt", *closedloop.__all__, *protocols.__all__, *figures.__all__}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_a_page_imports_what_it_uses(page):
    known = set()
    for block in blocks(page.read_text(), "python", "{code-cell}"):
        made, lacking = made_and_lacking(re.sub(r"^:.*", "", block, flags=re.M))  # a cell's options
        known |= made
        lacking = {name for name in lacking - known if name in TO_IMPORT or name[0].isupper()}
        assert not {name for name in lacking if not name.startswith("My")}, block


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_read_in_minutes(page):
    assert len(page.read_text().split()) <= 1500


def test_every_extra_stands_in_the_table():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "start" / "install.md").read_text(), flags=re.M)
    assert {name for row in rows for name in re.findall("`(.*?)`", row)} == set(extras)


def test_the_readme_is_short():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.S)
    assert len(text.split()) <= 600
