"""What README and the documents say can be typed: code parses, commands and options exist, links lead somewhere."""

import ast
import itertools
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from closedloop import parse_objective
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
