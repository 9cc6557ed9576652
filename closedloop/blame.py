"""Whose fault it is: a part of somebody's own that raises wherever it is looked at.

The calls that an experiment makes of its parts name them (`closedloop.errors.blamed`). But a part is looked at in many
places more: its name in every message, its units, its space, its recipe, how an objective describes itself. Each of
these may be a property that computes something, and raises. So one wrapper around whole experiments asks the traceback
in whose own code the exception arose.
"""

from __future__ import annotations

import inspect
import re
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
        if not _names(words, str(error)):
            reword(error, f"{words}: {call}: {error}")
        raise


def _names(words: str, text: str) -> bool:
    """Tells whether an error names a part of a kind already, such as ``subject 'a'`` or ``its objective unit(0)``."""
    kind = words.partition(" ")[0]
    return words in text or f"its {kind} " in text or re.search(rf"\b{kind}( ['\"]|:| raised )", text) is not None


def _owner(error: BaseException) -> tuple[str, type[ClosedLoopError], str] | None:
    """Returns the part in whose code an exception arose, in words, its error, and what was looked at; None for none."""
    for seen in _causes(error):
        called: list[tuple[Any, str]] = []  # the parts of their own in whose code it was, innermost first, and what was
        for frame in reversed(list(_frames(seen.__traceback__))):
            code = frame.tb_frame.f_code
            ours = _is_ours(frame.tb_frame.f_globals.get("__name__"))  # and was handed the part, perhaps
            part = frame.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount and not ours else None
            if part is not None and _kinds(part):
                called.append((part, code.co_name))
        if called:
            part, call = called[0]
            kind, error_of = _asked_as(part, {name for other, name in called if other is part})
            return f"{kind} {_name(part)}", error_of, call
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and its causes, each once: ``raise error from error`` makes one its own cause."""
    seen: dict[int, BaseException] = {}
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen[id(cause)] = cause
        yield cause
        cause = cause.__cause__


def _frames(place: TracebackType | None) -> Iterator[TracebackType]:
    while place is not None:
        yield place
        place = place.tb_next


def _kinds(part: Any) -> list[tuple[str, tuple[str, ...], type[ClosedLoopError]]]:
    """Returns of which kinds a part of somebody's own is; it is not asked itself."""
    own = type(part)
    if _is_ours(own.__module__) or isinstance(part, type):
        return []
    return [one for one in _KINDS if all(inspect.getattr_static(part, name, None) is not None for name in one[1])]


def _asked_as(part: Any, calls: set[str]) -> tuple[str, type[ClosedLoopError]]:
    """Returns as which kind a part was looked at, and the error that names it: one may be of several kinds."""
    kinds = _kinds(part)
    kind, _, error = next((one for one in kinds if calls & set(one[1])), kinds[0])
    return kind, error


def _is_ours(module: Any) -> bool:
    return str(module).partition(".")[0] == "closedloop"


def _name(part: Any) -> str:
    """Returns a part's name, or that of its class where it has none to tell."""
    try:
        name = part.name
    except Exception:  # noqa: BLE001 - it is about to be blamed
        name = None
    return repr(name) if isinstance(name, str) else type(part).__name__
