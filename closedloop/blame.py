"""Whose fault it is: a part of somebody's own that raises wherever it is looked at.

The calls that an experiment makes of its parts name them (`closedloop.errors.blamed`). But a part is looked at in many
places more: its name in every message, its units, its space, its recipe, how an objective describes itself. Each of
these may be a property that computes something, and raises. So one wrapper around whole experiments asks the traceback
in whose own code the exception arose.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from closedloop.errors import (
    ClosedLoopError,
    GeneratorError,
    ObjectiveError,
    ObserverError,
    OptimizerError,
    SubjectError,
    reason,
    reword,
)

#: Kinds of parts with what tells them, and the error that names one.
_KINDS: tuple[tuple[str, tuple[str, ...], type[ClosedLoopError]], ...] = (
    ("subject", ("record", "units"), SubjectError),
    ("optimizer", ("ask", "tell"), OptimizerError),
    ("generator", ("__call__", "space", "resolution"), GeneratorError),
    ("observer", ("begin", "generation", "end"), ObserverError),
    ("objective", ("__call__", "describe"), ObjectiveError),
)


@contextmanager
def parts_named() -> Iterator[None]:
    """Names the part of somebody's own in whose code an exception arises; any other stays as it is.

    Raises:
        ClosedLoopError: Of the kind of the part, with the exception as its cause. One of ours stays of its own kind,
            and names the part.
    """
    try:
        yield
    except Exception as error:
        found = _owner(error)
        if found is None:
            raise
        words, kind, call = found
        if not isinstance(error, ClosedLoopError):
            raise kind(f"{words}: {call} raised {reason(error)}") from error
        if words.partition(" ")[0] not in str(error):
            reword(error, f"{words}: {call}: {error}")
        raise


def _owner(error: BaseException) -> tuple[str, type[ClosedLoopError], str] | None:
    """Returns the part in whose code an exception arose, in words, its error, and what was looked at; None for none."""
    seen: BaseException | None = error
    while seen is not None:
        for frame in reversed(list(_frames(seen.__traceback__))):
            code = frame.tb_frame.f_code
            ours = _is_ours(frame.tb_frame.f_globals.get("__name__"))  # and was handed the part, perhaps
            part = frame.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount and not ours else None
            if part is not None and (found := _kind(part)) is not None:
                return f"{found[0]} {_name(part)}", found[1], code.co_name
        seen = seen.__cause__
    return None


def _frames(place: TracebackType | None) -> Iterator[TracebackType]:
    while place is not None:
        yield place
        place = place.tb_next


def _kind(part: Any) -> tuple[str, type[ClosedLoopError]] | None:
    """Returns of which kind a part of somebody's own is, and the error that names it; it is not asked itself."""
    own = type(part)
    if _is_ours(own.__module__) or isinstance(part, type):
        return None
    for kind, members, error in _KINDS:
        if all(inspect.getattr_static(part, member, None) is not None for member in members):
            return kind, error
    return None


def _is_ours(module: Any) -> bool:
    return str(module).partition(".")[0] == "closedloop"


def _name(part: Any) -> str:
    """Returns a part's name, or that of its class where it has none to tell."""
    try:
        name = part.name
    except Exception:  # noqa: BLE001 - it is about to be blamed
        name = None
    return repr(name) if isinstance(name, str) else type(part).__name__
