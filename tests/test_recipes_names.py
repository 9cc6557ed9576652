"""Names through entry points."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import pytest

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, WeightsError


@pytest.fixture
def plug_in(monkeypatch):
    """Adds entry points of a plug-in package to the known ones."""
    module = types.ModuleType("plug_in")
    module.make = lambda *arguments, size=1: ("made", arguments, size)
    monkeypatch.setitem(sys.modules, "plug_in", module)
    known = metadata.entry_points

    def entry_points(group):
        added = [
            metadata.EntryPoint("mine", "plug_in:make", group),
            metadata.EntryPoint("broken", "package_that_is_not_there:make", group),
        ]
        return [*known(group=group), *added]

    monkeypatch.setattr(recipes.metadata, "entry_points", entry_points)
    return module


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
    with pytest.raises(InvalidArgumentError, match=r"optimizer 'cma': missing .*'space'. It takes: space, seed"):
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


def test_an_option_of_the_wrong_type():
    with pytest.raises(InvalidArgumentError, match=r"subject 'gabor': an option has the wrong type \(.*str"):
        recipes.build("subjects", "gabor", exponent="bar")
