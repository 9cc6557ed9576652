"""The tree of errors, and the hint for a misspelt name."""

from __future__ import annotations

import inspect

import pytest

import closedloop
import closedloop.analysis
import closedloop.generators
import closedloop.subjects
from closedloop import errors
from closedloop.errors import closest, reason
from closedloop.interfaces import Space

FOUND = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, Exception)]
ERRORS = [e for e in FOUND if not issubclass(e, Warning)]


@pytest.mark.parametrize("error", ERRORS)
def test_one_base(error):
    assert issubclass(error, errors.ClosedLoopError)
    assert inspect.getdoc(error)


def test_builtin_kin():
    assert issubclass(errors.InvalidArgumentError, ValueError)
    assert issubclass(errors.UnknownNameError, errors.InvalidArgumentError)
    assert issubclass(errors.MissingExtraError, ImportError)
    assert issubclass(errors.CallOrderError, RuntimeError)
    assert issubclass(errors.SubjectTimeoutError, errors.SubjectError)


def test_closest():
    assert closest("forier", ["fourier", "pixels"]) == " Did you mean 'fourier'?"
    assert closest("unit_1", ["unit_2", "unit_3"]) == " Did you mean 'unit_3' or 'unit_2'?"
    assert closest("zzz", ["pixels", "fourier"]) == " Known names: fourier, pixels."
    assert closest("zzz", [f"n{i:02d}" for i in range(20)]).endswith("n11, ….")
    assert closest("zzz", []) == ""


def test_the_first_line_of_an_error():
    assert reason(ValueError("first\nsecond")) == "ValueError: first"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 1000))) < 250


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(errors.MissingExtraError, match=r"a test needs torch.*pip install 'closedloop\[networks\]'"):
        with errors.extras_named("a test"):
            raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")


@pytest.mark.parametrize("name", [None, "no_such_package"])
def test_another_import_error_stays_what_it_is(name):
    with pytest.raises(ImportError, match="broken") as caught:
        with errors.extras_named("a test"):
            raise ImportError("broken", name=name)
    assert not isinstance(caught.value, errors.MissingExtraError)


def test_late_names_are_found_and_others_are_not():
    find = errors.late_import("closedloop", {"Space": "interfaces"})
    assert find("Space") is Space
    assert find("analysis").__name__ == "closedloop.analysis"
    with pytest.raises(AttributeError, match="module 'closedloop' has no attribute 'Spaces'"):
        find("Spaces")


@pytest.mark.parametrize("package", [closedloop, closedloop.analysis, closedloop.subjects, closedloop.generators])
def test_every_public_name_can_be_imported(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    homes = vars(package).get("_HOMES", {})
    assert not homes.keys() & set(homes.values()), "importing the module would hide the name"
