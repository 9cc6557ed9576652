"""Names through entry points."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from importlib import metadata
from pathlib import Path

import pytest

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, WeightsError
from closedloop.interfaces import Space


@pytest.fixture
def plug_in(monkeypatch):
    """Adds entry points of a plug-in package to the known ones."""
    module = types.ModuleType("plug_in")
    module.make = lambda *arguments, size=1: ("made", arguments, size)
    monkeypatch.setitem(sys.modules, "plug_in", module)
    known = recipes.installed

    def installed(kind):
        added = [
            metadata.EntryPoint("mine", "plug_in:make", f"closedloop.{kind}"),
            metadata.EntryPoint("broken", "package_that_is_not_there:make", f"closedloop.{kind}"),
        ]
        return (*known(kind), *added)

    monkeypatch.setattr(recipes, "installed", installed)
    return module


def test_what_is_installed_is_read_once_and_again_when_something_was_added(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    reads, entry_points = [], metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda **group: reads.append(group) or entry_points(**group))
    for _ in range(3):
        assert "late" not in recipes.names("generators")
    assert len(reads) == 1
    facts = tmp_path / "late-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[closedloop.generators]\nlate = closedloop.generators.pixels:Pixels\n")
    assert "late" in recipes.names("generators")
    assert recipes.build("generators", "late", resolution=4).resolution == 4
    assert len(reads) == 2


def test_names():
    assert {"cma", "cma-diagonal", "isotropic", "random"} <= set(recipes.names("optimizers"))
    assert {"fourier", "pixels"} <= set(recipes.names("generators"))
    assert "lite0" in recipes.names("subjects")
    assert recipes.names("optimizers") == sorted(recipes.names("optimizers"))


def test_a_plug_in_is_found(plug_in):
    assert "mine" in recipes.names("generators")
    assert recipes.build("generators", "mine") == ("made", (), 1)
    assert recipes.build("generators", "mine", "x", size=3) == ("made", ("x",), 3)
    assert recipes.build("generators", "mine:own:argument", "x") == ("made", ("own:argument", "x"), 1)


def test_unknown_name():
    with pytest.raises(UnknownNameError, match=r"generator: no generator named 'forier'. Did you mean 'fourier'?"):
        recipes.build("generators", "forier")


def test_unknown_option():
    with pytest.raises(InvalidArgumentError, match=r"generator 'fourier': .*'cutof'. Did you mean 'cutoff'?"):
        recipes.build("generators", "fourier", cutof=3)


def test_missing_argument():
    with pytest.raises(InvalidArgumentError, match=r"optimizer 'cma': it needs space. Its options: space, seed"):
        recipes.build("optimizers", "cma")


def test_missing_package(plug_in):
    with pytest.raises(MissingExtraError, match=r"generator 'broken': .*pip install package_that_is_not_there"):
        recipes.build("generators", "broken")


def test_errors_of_the_factory_pass(plug_in):
    def fail():
        raise WeightsError("no weights")

    plug_in.make = fail
    with pytest.raises(WeightsError, match="no weights"):
        recipes.build("subjects", "mine")


@pytest.mark.parametrize("kind", ["generators", "optimizers", "subjects"])
def test_every_entry_point_can_be_loaded(kind):
    for entry in metadata.entry_points(group=f"closedloop.{kind}"):
        if (entry.dist is None) or entry.dist.name == "closedloop":
            assert callable(entry.load())


@pytest.mark.parametrize(
    ("kind", "name", "options", "message"),
    [
        ("subjects", "gabor", {"exponent": "bar"}, "subject 'gabor': exponent: expected a number, got 'bar'"),
        ("subjects", "gabor", {"resolution": "x"}, "resolution: expected a whole number, got 'x'"),
        ("subjects", "gabor", {"contrast": [1, 2]}, "contrast"),
        ("generators", "native", {"shell": "maybe"}, "shell: expected True or False, got 'maybe'"),
        ("generators", "fourier", {"resolution": True}, "resolution: expected a whole number.*, got True"),
    ],
)
def test_an_option_of_another_type_is_named(kind, name, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        recipes.build(kind, name, **options)


def _wrong_options():
    """Every option of every part that states a plain type, with values of other types."""
    values = {"a text": "maybe", "a list": [1, 2], "a mapping": {"a": 1}, "yes": True, "half": 0.5, "a date": object()}
    for kind in ("subjects", "generators", "optimizers"):
        for name in recipes.names(kind):
            try:
                stated = recipes._stated_types(recipes.find(kind, name))
            except MissingExtraError:
                continue
            for option, hint in stated.items():
                for called, value in values.items():
                    if option not in ("return", "name") and not recipes._fits(value, hint):
                        yield pytest.param(kind, name, option, value, id=f"{name}-{option}-{called}")


@pytest.mark.sampled(600)
@pytest.mark.parametrize(("kind", "name", "option", "value"), list(_wrong_options()))
def test_no_option_of_another_type_is_taken(kind, name, option, value):
    required = {"space": Space(4), "subject": "gabor", "generator": "fourier"}
    known = inspect.signature(recipes.find(kind, name)).parameters
    others = {k: v for k, v in required.items() if k in known and k != option}
    with pytest.raises((InvalidArgumentError, WeightsError), match=option):
        recipes.build(kind, name, **others, **{option: value})


@pytest.mark.parametrize("error", [ValueError("of its own"), KeyError("x"), RuntimeError(), ZeroDivisionError("0")])
def test_what_a_factory_raises_names_the_part(plug_in, error):
    def make(size=1):
        raise error

    plug_in.make = make
    with pytest.raises(
        InvalidArgumentError, match=rf"generator 'mine': it cannot be made with size=3 \({type(error).__name__}"
    ):
        recipes.build("generators", "mine", size=3)


def test_a_factory_of_ones_own_may_state_any_types(plug_in):
    def make(a: NotImported = None, b: int | None = None, c: list[float] = ()):  # noqa: F821
        return a, b, c

    plug_in.make = make
    assert recipes.build("generators", "mine", a=object, b=2, c=[1])[1:] == (2, [1])


def test_types_that_are_not_plain_are_left_to_the_factory(plug_in):
    def make(a: Path = Path(), b: tuple[int, str] = (1, "x"), c: typing.List = ()):  # noqa: UP006
        return a, b, c

    plug_in.make = make
    assert recipes.build("generators", "mine", a="file.txt", b=(2, "y"), c=[1]) == ("file.txt", (2, "y"), [1])


def test_a_name_that_fixes_an_option_does_not_take_it():
    with pytest.raises(InvalidArgumentError, match="generator 'native-2': it has no option 'weights'"):
        recipes.build("generators", "native-2", weights="native-1")
    with pytest.raises(InvalidArgumentError, match="generator 'native-1': shell: expected True or False, got 'maybe'"):
        recipes.build("generators", "native-1", shell="maybe")
