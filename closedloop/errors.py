"""The errors that a user can cause. All derive from `ClosedLoopError`; the command line shows them without a traceback.

Each message names the argument, what was expected, what came, and the likely cure.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class ClosedLoopError(Exception):
    """Base of every error that closedloop raises for bad input or a failing experiment."""


class InvalidArgumentError(ClosedLoopError, ValueError):
    """An argument has the wrong shape, range, type or name."""


class UnknownNameError(InvalidArgumentError):
    """A name (layer, subject, generator, optimizer) is not known."""


class WeightsError(ClosedLoopError):
    """Weights are missing, unreadable, or do not fit the network."""


class MissingExtraError(ClosedLoopError, ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


class SubjectError(ClosedLoopError):
    """The subject raised, or returned something that is not a response."""


class SubjectTimeoutError(SubjectError):
    """The subject did not answer within `timeout_s`."""


class GeneratorError(ClosedLoopError):
    """The generator returned something that is not a batch of images."""


class OptimizerError(ClosedLoopError):
    """An optimizer of another package failed in itself."""


class RecordingError(ClosedLoopError):
    """A recording cannot be created, read, or written."""


class CallOrderError(ClosedLoopError, RuntimeError):
    """Methods were called in an order that has no meaning, such as `tell` before `ask`."""


def closest(name: str, known: Iterable[str]) -> str:
    """Words a hint for a misspelt name: ``" Did you mean 'a' or 'b'?"``, or the known names when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return " Did you mean " + " or ".join(repr(n) for n in near) + "?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f" Known names: {shown}." if names else ""


def reason(error: BaseException) -> str:
    """The first line of an error, for use within a clearer one."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def require(module: str, extra: str, what: str) -> Any:
    """Imports a package that an extra installs.

    Args:
        module: Its name.
        extra: The extra of closedloop that installs it.
        what: What needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {module}, which cannot be imported ({error}); install it: pip install 'closedloop[{extra}]'"
        ) from error
