"""The tree of errors, and the hint for a misspelt name."""

from __future__ import annotations

import inspect

import pytest

from closedloop import errors
from closedloop.errors import closest, reason

ERRORS = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, Exception)]


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
